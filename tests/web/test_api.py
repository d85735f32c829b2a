"""The API reads the record: every route answers by its own schema, pages hang together, errors name the parameter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from challenger.evidence.keeper import name_of
from challenger.store import Store
from challenger.store.listed import LISTED
from challenger.web.api.routes import TABLE
from challenger.web.keys import STORE
from tests.store.chains import ME, T0, h
from tests.store.test_store_listing import MODELS, PROVIDERS
from tests.web.conftest import Open, settings_of

ROOT = "/api/v1"
PATHS = {
    "commitment": "0x" + h("commitment", 2).hex(),
    "task": "0x" + h("task", 2).hex(),
    "dispute": "1",
    "demand": "1",
    "model": "0x" + MODELS[0].hex(),
    "provider": PROVIDERS[0],
    "verdict": "1",
    "transaction": "1",
    "epoch": "1",
}
READS = [
    route
    for route in TABLE
    if route.method == "GET" and route.name not in ("get_events", "get_evidence", "list_filings")
]


def concrete(path: str) -> str:
    for name, value in PATHS.items():
        path = path.replace("{" + name + "}", value)
    return path


def check(value: Any, schema: dict[str, Any], schemas: dict[str, Any], where: str) -> None:
    """As much of JSON Schema as ours uses; schemathesis has all of it."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
    if "oneOf" in schema:
        if value is not None:
            check(value, schema["oneOf"][0], schemas, where)
        return
    names = {type(None): "null", bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}
    if "type" in schema:
        wanted = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        kind = names.get(type(value), "number")
        assert kind in wanted or (kind == "integer" and "number" in wanted), f"{where}: {value!r} is no {wanted}"
    if isinstance(value, dict) and "properties" in schema:
        assert set(value) == set(schema["properties"]), where
        for name, inner in schema["properties"].items():
            check(value[name], inner, schemas, f"{where}.{name}")
    if isinstance(value, list):
        for one in value:
            check(one, schema["items"], schemas, where + "[]")


@pytest.mark.parametrize("route", READS, ids=lambda route: route.name)
async def test_every_route_answers_as_its_schema_says(client: TestClient, route: Any) -> None:
    answer = await client.get(concrete(route.full))
    assert answer.status == 200, await answer.text()
    assert answer.content_type == "application/json"
    told = await answer.json()
    schemas = (await (await client.get(f"{ROOT}/openapi.json")).json())["components"]["schemas"]
    check(told, route.answer, schemas, route.name)
    if route.name.startswith("list_"):
        assert told["items"]


@pytest.mark.parametrize("name", sorted(LISTED))
async def test_links_lead_through_all_pages_and_back(client: TestClient, name: str) -> None:
    whole = (await (await client.get(f"{ROOT}/{name}?limit=200&order=oldest")).json())["items"]
    found, link, last = [], f"{ROOT}/{name}?limit=3&order=oldest", None
    while link is not None:
        answer = await client.get(link)
        page = await answer.json()
        found += page["items"]
        assert (answer.links.get("next") is not None) == (page["next"] is not None)
        last, link = page, page["next"]
    assert found == whole
    back, link = [last["items"]], last["prev"]
    while link is not None:
        page = await (await client.get(link)).json()
        back.append(page["items"])
        link = page["prev"]
    assert [one for items in reversed(back) for one in items] == whole


async def test_filters_ask_for_what_they_say(client: TestClient) -> None:
    async def items(path: str) -> list[Any]:
        answer = await client.get(f"{ROOT}/{path}")
        assert answer.status == 200, await answer.text()
        return (await answer.json())["items"]

    replayed = await items("commitments?state=replayed")
    assert {row["commitment"]["commitment"] for row in replayed} == {"0x" + h("commitment", n).hex() for n in (2, 3, 5)}
    fraud = await items(
        f"commitments?verdict=FRAUD&confirmation=VALID&provider={PROVIDERS[2].upper().replace('X', 'x')}"
    )
    assert [row["work"]["state"] for row in fraud] == ["replayed"]
    assert [row["number"] for row in await items("epochs?revealed=false")] == [2]
    assert len(await items(f"commitments?since={T0}&until={T0 + 25}")) == 4
    assert [row["challenger"] for row in await items(f"disputes?challenger={ME}")] == [ME]
    assert [row["outcome"] for row in await items("disputes?outcome=challenger")] == ["challenger"]
    (dispute,) = await items("disputes?outcome=challenger")
    assert (dispute["paid"], dispute["burnt"], dispute["dispute"]) == (str(2 * 10**18), "7", "2")


async def test_a_commitment_with_everything_about_it(client: TestClient) -> None:
    told = await (await client.get(f"{ROOT}/commitments/{PATHS['commitment']}")).json()
    assert [one["kind"] for one in told["verdicts"]] == ["FRAUD", "VALID"]
    assert told["listed"]["verdict"] == "FRAUD"
    assert [one["kind"] for one in told["moves"]] == ["Committed", "DisputeOpened"]
    assert told["moves"][0]["facts"]["output_data_length"] == len(b"output of 2")
    assert [one["intent"]["action"] for one in told["transactions"]] == ["challenge"]
    assert [one["kind"] for one in told["journal"]][:2] == ["observed", "chain-dispute-opened"]
    assert told["task"]["fee"] == "5"
    dispute = await (await client.get(f"{ROOT}/disputes/1")).json()
    assert (dispute["ours"], dispute["dispute"]["bond"]) == (True, str(10**18))
    assert [one["kind"] for one in dispute["moves"]] == ["DisputeOpened"]


async def test_a_client_that_has_it_is_told_so(client: TestClient) -> None:
    first = await client.get(f"{ROOT}/commitments?limit=2")
    tag = first.headers["ETag"]
    again = await client.get(f"{ROOT}/commitments?limit=2", headers={"If-None-Match": tag})
    assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", tag)
    weak = await client.get(f"{ROOT}/commitments?limit=2", headers={"If-None-Match": f'"x", W/{tag}'})
    assert weak.status == 304
    other = await client.get(f"{ROOT}/commitments?limit=3", headers={"If-None-Match": tag})
    assert other.status == 200
    assert first.headers["Cache-Control"] == "private, no-cache"


BAD = [
    ("commitments?limit=0", 400, "limit"),
    ("commitments?limit=201", 400, "limit"),
    ("commitments?limit=5&limit=6", 400, "limit"),
    ("commitments?state=bold", 400, "state"),
    ("commitments?provider=0x12", 400, "provider"),
    ("commitments?model=0x12", 400, "model"),
    ("commitments?selected=yes", 400, "selected"),
    ("commitments?since=-1", 400, "since"),
    ("commitments?since=99999999999999999999", 400, "since"),
    ("commitments?since=%C2%B2", 400, "since"),
    ("commitments?cursor=AAAA", 404, "cursor"),
    ("commitments?cursor=%FF", 400, "cursor"),
    ("commitments?colour=red", 400, "colour"),
    ("journal?kind=%00", 400, "kind"),
    ("tasks?open=true&since=5", 400, "since"),
    ("commitments/0x12", 404, "commitment"),
    ("commitments/0x" + "00" * 32, 404, None),
    ("disputes/" + "9" * 79, 404, "dispute"),
    ("disputes/77", 404, None),
    ("verdicts/77", 404, None),
    ("epochs/77/sampling", 404, None),
    ("nothing", 404, None),
]


@pytest.mark.parametrize(("path", "status", "parameter"), BAD)
async def test_what_is_wrong_is_named(client: TestClient, path: str, status: int, parameter: str | None) -> None:
    answer = await client.get(f"{ROOT}/{path}")
    told = await answer.json(content_type="application/problem+json")
    assert (answer.status, told["status"], told.get("parameter")) == (status, status, parameter)
    assert told["title"]
    assert "\n" not in told["detail"]


async def test_a_cursor_of_another_list_is_refused(client: TestClient) -> None:
    page = await (await client.get(f"{ROOT}/tasks?limit=2")).json()
    answer = await client.get(page["next"].replace("/tasks", "/commitments"))
    assert answer.status == 404
    told = await answer.json(content_type="application/problem+json")
    assert "another list" in told["detail"]


async def test_the_table_and_the_document_are_one(client: TestClient) -> None:
    told = await (await client.get(f"{ROOT}/openapi.json")).json()
    assert told["openapi"] == "3.1.0"
    operations = {(method, path) for path, methods in told["paths"].items() for method in methods}
    assert operations == {(route.method.lower(), route.full) for route in TABLE}
    names = [method["operationId"] for methods in told["paths"].values() for method in methods.values()]
    assert len(names) == len(set(names))
    refs = set(json.dumps(told).split("#/components/schemas/")[1:])
    assert {ref.split('"')[0] for ref in refs} == set(told["components"]["schemas"])


async def test_the_sampling_of_an_epoch(client: TestClient, full: Store) -> None:
    told = await (await client.get(f"{ROOT}/epochs/1/sampling")).json()
    assert told["commitments"] == 18
    assert any("offline" in note for note in told["notes"])


async def test_status_says_what_it_does_not_know(client: TestClient) -> None:
    told = await (await client.get(f"{ROOT}/status")).json()
    assert told["watcher"]["known"] is False
    assert "[telemetry] metrics is not set" in told["watcher"]["why"]
    assert told["block"] == 20


async def test_a_bundle_is_served_as_it_is_kept(served: Open, tmp_path: Path) -> None:
    base = settings_of(tmp_path)
    folder = tmp_path / "evidence"
    folder.mkdir()
    client = await served(replace(base, store=replace(base.store, evidence=folder)))
    missing = await client.get(f"{ROOT}/evidence/1")
    told = await missing.json(content_type="application/problem+json")
    assert missing.status == 404
    assert f"challenger evidence export {PATHS['commitment']} makes one" in told["detail"].replace("`", "")
    async with client.app[STORE].read() as view:
        work = await view.work.get(h("commitment", 2))
    assert work is not None
    assert work.confirmation is not None
    raw = b'{"some": "bundle"}' * 50_000
    (folder / name_of(h("commitment", 2), work.confirmation)).write_bytes(raw)
    for verdict in (work.verdict, work.confirmation):
        answer = await client.get(f"{ROOT}/evidence/{verdict}")
        assert (answer.status, answer.content_type, await answer.read()) == (200, "application/json", raw)
        again = await client.get(f"{ROOT}/evidence/{verdict}", headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status == 304
    for verdict in (2, 77):  # of another commitment; none at all
        assert (await client.get(f"{ROOT}/evidence/{verdict}")).status == 404


async def test_what_takes_too_long_is_given_up(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("challenger.web.api.routes._SECONDS", 0)
    answer = await client.get(f"{ROOT}/overview")
    assert answer.status == 503
    assert "ask for less" in await answer.text()
