"""`challenger demo --protocol opengradient`: scenes on the embedded chain, then the audit, which is told none of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.protocols.findings import Finding
from challenger.protocols.opengradient.audit import Checked
from challenger.protocols.opengradient.join import Unjoined
from challenger.reporting import Report, Wanted
from challenger.sim import stage as models
from challenger.sim.files import Folder
from challenger.sim.opengradient.scenes import SCENES, Played, Scene, Stage
from challenger.sim.scenario import DIGITS
from challenger.store import migrate


@dataclass
class Outcome:
    """What the audits of all scenes said. ``wrong``: what they should have found and did not, or found and should not."""

    checked: list[Checked] = field(default_factory=list)
    unjoined: list[Unjoined] = field(default_factory=list)
    found: list[Finding] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    recorded: int = 0

    @property
    def holds(self) -> bool:
        return not self.wrong


async def play(folder: Folder, say: Callable[[str, str], None], scenes: Sequence[Scene] = SCENES) -> Outcome:
    """``say``: told what happens, as a phase and a line."""
    outcome = Outcome()
    blocks = folder.path / "gateway"
    blocks.mkdir()
    settings = folder.write_report_config(
        f'[replay]\ncache = "{folder.cache}"\nmemory_bytes = {3 << 30}\ngateways = ["{blocks.as_uri()}"]\n'
    )
    await migrate.upgrade(settings.store.url)
    say("models", "training a digit classifier, and making false twins of it")
    await models.build(DIGITS, folder.models)
    async with EmbeddedDevnet() as devnet:
        for scene in scenes:
            title = scene.__doc__ or ""
            say("scene", title.partition("\n")[0])
            played = await scene(Stage(devnet, folder.models, blocks, lambda line: say("", line)))
            say("audit", f"{played.title}: read off the chain, models fetched by CID, run again, compared")
            report = Report(replace(settings, opengradient=played.ours), Wanted(played.first), rpc=devnet.rpc)
            before = len(outcome.found), len(outcome.checked)
            async for one in report.results():
                if isinstance(one, Checked):
                    outcome.checked.append(one)
                    outcome.found += one.findings
                elif isinstance(one, Finding):
                    outcome.found.append(one)
                else:
                    outcome.unjoined.append(one)
            outcome.recorded += report.new
            outcome.wrong += _wrong(played, outcome.checked[before[1] :], outcome.found[before[0] :])
    return outcome


def _wrong(played: Played, checked: Sequence[Checked], found: Sequence[Finding]) -> list[str]:
    """Inferences by their ids, other things by their subjects."""
    names = {one.inference.subject: one.inference.inference for one in checked}
    told: dict[str, set[str]] = {name: set() for name in names.values()}
    for one in found:
        told.setdefault(names.get(one.subject, "0x" + one.subject.hex()), set()).add(one.kind)
    expected: Mapping[str, frozenset[str]] = played.expected
    return [
        f"{name}: expected {_kinds(expected.get(name, ()))}, found {_kinds(told.get(name, ()))}"
        for name in {**dict.fromkeys(expected), **dict.fromkeys(told)}
        if set(expected.get(name, ())) != told.get(name, set()) or name not in expected
    ]


def _kinds(kinds: Sequence[str] | set[str] | frozenset[str]) -> str:
    return " and ".join(sorted(kinds)) or "nothing"
