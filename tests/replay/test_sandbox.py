"""The sandbox against a tenant that misbehaves in earnest: real processes, real walls, no mocks."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from replay.sandbox import Completed, Described, Inconclusive, Limits, Reason, ReplayPool, ReplayRequest

WORKER = (str(Path(__file__).with_name("misbehaving_worker.py")),)
LIMITS = Limits(memory_bytes=1 << 30, cpu_seconds=5, wall_seconds=10, start_seconds=30, answer_bytes=1 << 20)


def order(act, argument=None, backend="numpy", **more):
    data = json.dumps({"act": act, "argument": argument}).encode()
    return ReplayRequest(Path("/nowhere/manifest.json"), None, None, None, 0, data, backend, **more)


def pool(**more):
    return ReplayPool(command=WORKER, **({"limits": LIMITS} | more))


async def worker_pid(running, **more):
    outcome = await running.replay(order("echo", **more))
    assert isinstance(outcome, Completed), outcome
    return int(outcome.receipt.environment["pid"])


def wait_until_gone(pid):
    """Wait for the end of a process that may not be our child; nobody may reap it, so a zombie is gone too."""
    for _ in range(500):
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:  # it may end between any two questions, so nothing is asked beforehand
            return
        psutil.wait_procs([process], timeout=0.02)
    raise AssertionError(f"process {pid} lives on")


async def gone(pid):
    await asyncio.to_thread(wait_until_gone, pid)


async def test_one_warm_process_serves_many_and_says_how_it_is_confined():
    async with pool() as running:
        assert running.isolation() == {}
        assert await running.warm("numpy") is None
        pids = {await worker_pid(running) for _ in range(3)}
        assert len(pids) == 1
        outcome = await running.replay(order("echo"))
        assert outcome.receipt.output == order("echo").input
        for key, value in running.isolation().items():
            assert outcome.receipt.environment[f"isolation.{key}"] == value
        assert running.isolation()["privileges"].startswith("none-new")
        assert isinstance(await running.describe(order("echo")), Described)
    await gone(pids.pop())


async def test_a_fresh_request_gets_a_process_of_its_own_that_ends_with_it():
    async with pool() as running:
        warm = await worker_pid(running)
        first, second = await worker_pid(running, fresh=True), await worker_pid(running, fresh=True)
        assert len({warm, first, second}) == 3
        await gone(first)
        await gone(second)
        assert await worker_pid(running) == warm


@pytest.mark.parametrize(
    ("act", "reason", "says"),
    [
        ("allocate", Reason.MEMORY, "allocation"),
        ("burn", Reason.TIMEOUT, "CPU time"),
        ("kill", Reason.CRASHED, "SIGKILL"),
        ("segfault", Reason.CRASHED, "SIGSEGV"),
        ("exit", Reason.CRASHED, "exit code 3"),
        ("raise", Reason.CRASHED, "an honest mistake (misbehaving_worker.py"),
        ("rubbish", Reason.PROTOCOL, "where a frame should begin"),
        ("huge frame", Reason.PROTOCOL, "announced a frame of 4294967295"),
    ],
)
async def test_misbehaviour_has_its_reason_and_the_pool_goes_on(act, reason, says):
    limits = replace(LIMITS, cpu_seconds=1 if act == "burn" else 60, wall_seconds=60)
    async with pool(limits=limits) as running:
        before = await worker_pid(running)
        outcome = await running.replay(order(act))
        assert isinstance(outcome, Inconclusive), outcome
        assert outcome.reason is reason
        assert says in outcome.detail
        assert "\n" not in outcome.detail
        assert await worker_pid(running) != before
        await gone(before)


@pytest.mark.parametrize(
    ("model", "reason", "says"),
    [
        ("endless", Reason.PROTOCOL, "announced a frame of 22 + 104857600 bytes, 1048576 + 4194304 allowed"),
        ("long", Reason.MODEL_REJECTED, "bytes of description, 4194304 allowed"),
    ],
)
async def test_a_description_has_a_limit_of_its_own_and_none_above_it_is_parsed(model, reason, says):
    """An output may be of hundreds of MiB, which nothing here reads; a description is parsed in our own process."""
    async with pool(limits=replace(LIMITS, answer_bytes=256 << 20)) as running:
        outcome = await running.describe(replace(order("echo"), manifest=Path("/nowhere", model)))
        assert isinstance(outcome, Inconclusive)
        assert outcome.reason is reason
        assert says in outcome.detail
        assert isinstance(await running.describe(order("echo")), Described)


async def test_a_hang_ends_at_the_wall_limit():
    async with pool() as running:
        before = await worker_pid(running)
        assert (await running.replay(order("hang"), seconds=0.2)).reason is Reason.TIMEOUT
        await gone(before)
        assert await worker_pid(running) != before


async def test_what_libraries_print_is_no_answer():
    async with pool() as running:
        before = await worker_pid(running)
        assert isinstance(await running.replay(order("print")), Completed)
        assert isinstance(await running.replay(order("flood")), Completed)
        assert await worker_pid(running) == before


@pytest.mark.parametrize("reason", Reason)
async def test_each_refusal_arrives_under_its_own_name(reason):
    async with pool() as running:
        assert await running.replay(order("refuse", reason.value)) == Inconclusive(reason, "as told")


@pytest.mark.parametrize(
    ("backend", "says"), [("broken", "came out wrong"), ("absent", "no_such_library"), ("unheard-of", "no backend")]
)
async def test_a_backend_that_cannot_start_is_refused(backend, says):
    async with pool(backends=("numpy", "broken", "absent")) as running:
        outcome = await running.replay(order("echo", backend=backend))
        assert outcome.reason is Reason.BACKEND_REFUSED
        assert says in outcome.detail
        assert (await running.warm(backend)).reason is Reason.BACKEND_REFUSED
        await worker_pid(running)


async def test_a_backend_that_never_gets_ready_is_a_timeout():
    async with pool(backends=("mute",), limits=Limits(start_seconds=1.5)) as running:
        assert (await running.replay(order("echo", backend="mute"))).reason is Reason.TIMEOUT


async def test_a_program_that_is_no_worker_is_a_protocol_error(tmp_path):
    chatter = tmp_path / "chatter.py"
    chatter.write_text("print('hello, this is not the protocol you are looking for')\n")
    async with ReplayPool(command=(str(chatter),)) as running:
        assert (await running.replay(order("echo"))).reason is Reason.PROTOCOL


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere isolation is reduced, and reported as such")
async def test_no_way_out(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    with socket.create_server(("127.0.0.1", 0)) as server:
        forbidden = {
            "inet socket": server.getsockname()[1], "unix socket": None, "udp": None, "write": str(victim),
            "append": str(victim), "create": str(tmp_path / "new"), "unlink": str(victim), "rename": str(victim),
            "spawn": None, "fork": None, "signal": None,
            "owner": None, "signal number": None, "asynchronous": None, "ioctl": None, "lock": str(victim),
            "priority": None, "affinity": None,
        }  # fmt: skip
        async with pool() as running:
            allowed = {"read": str(victim), "thread": None}
            tracing = {"environment of the parent": None} if running_landlock() else {}
            seen = (await running.replay(order("probe", forbidden | allowed | tracing))).receipt.environment
            isolation = running.isolation()
        assert isolation["network"].endswith("seccomp")
        assert isolation["files"].startswith("size-limit")
        assert isolation["signals"] in ("seccomp", "landlock+seccomp")
        assert {name: seen[name].split(":")[0] for name in {**forbidden, **tracing}} == dict.fromkeys(
            {**forbidden, **tracing}, "PermissionError"
        )
        assert {seen[name] for name in allowed} == {"done"}
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert [path.name for path in tmp_path.iterdir()] == ["victim"]
    assert victim.read_text() == "mine"


def running_landlock():
    listed = Path("/sys/kernel/security/lsm")
    return listed.exists() and "landlock" in listed.read_text()


async def test_secrets_in_our_environment_stay_ours(monkeypatch):
    monkeypatch.setenv("CHALLENGER_KEY", "0xsecret")
    async with pool() as running:
        seen = json.loads((await running.replay(order("environment"))).receipt.output)
    assert "0xsecret" not in json.dumps(seen)
    assert seen["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert seen["OMP_NUM_THREADS"] == "1"


async def test_requests_are_served_in_the_order_of_their_coming():
    served = []

    async def one(running, number):
        await running.replay(order("echo"))
        served.append(number)

    async with pool() as running, asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(one(running, number))
    assert served == list(range(8))


async def test_cancelling_a_request_ends_its_worker_and_not_the_queue():
    async with pool() as running:
        before = await worker_pid(running)
        doomed = asyncio.create_task(running.replay(order("hang")))
        waiting = asyncio.create_task(running.replay(order("echo")))
        impatient = asyncio.create_task(running.replay(order("echo")))
        await asyncio.sleep(0)
        impatient.cancel()
        doomed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await doomed
        after = int((await waiting).receipt.environment["pid"])
        assert after != before
        await gone(before)
        assert await worker_pid(running) == after


async def test_a_worker_that_died_while_idle_is_replaced_silently():
    async with pool() as running:
        before = await worker_pid(running)
        os.kill(before, signal.SIGKILL)
        await gone(before)
        async with asyncio.timeout(60):
            while isinstance(await running.replay(order("echo")), Inconclusive):
                pass  # the end of the process may reach us a little later than its death


async def test_closing_leaves_no_process_and_ends_requests_under_way():
    before = set(psutil.Process().children(recursive=True))
    running = pool(workers=2)
    async with running:
        await asyncio.gather(*(worker_pid(running) for _ in range(2)))
        under_way = [asyncio.create_task(running.replay(order("hang", fresh=fresh))) for fresh in (False, True, True)]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*under_way)
    assert {outcome.reason for outcome in outcomes} == {Reason.CRASHED}
    assert all("closed" in outcome.detail for outcome in outcomes)
    assert set(psutil.Process().children(recursive=True)) <= before
    assert "closed" in (await running.replay(order("echo"))).detail


async def test_an_input_over_the_limit_is_not_even_sent():
    async with pool() as running:
        request = ReplayRequest(Path("m"), None, None, None, 0, bytes(LIMITS.answer_bytes + 1), "numpy")
        assert (await running.replay(request)).reason is Reason.INPUT_REJECTED


def test_a_killed_parent_leaves_no_worker():
    program = textwrap.dedent(f"""
        import asyncio, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_sandbox import order, pool, worker_pid

        async def main():
            async with pool() as running:
                print(await worker_pid(running), flush=True)
                await running.replay(order("hang"))

        asyncio.run(main())
    """)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    with parent:
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    wait_until_gone(pid)
