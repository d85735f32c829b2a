"""`challenger evidence`: a verdict in one file, made with the record and checked without it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from challenger.cli.common import address, natural, print_json, settings_of, utc
from challenger.errors import BundleRefused, ConfigError
from challenger.settings import reference_only

if TYPE_CHECKING:
    from challenger.evidence.check import Checked
    from challenger.evidence.seal import Sealed
    from challenger.settings import Settings

_MARKS = {True: "holds", False: "DOES NOT HOLD", None: "not shown"}
_BACKENDS = ("torch", "numpy")
#: Verdicts that a replay comes to.
_REPLAYED = ("VALID", "FRAUD")


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    kinds = sub.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, line in (
        ("export", "write the bundle on a commitment's verdict"),
        (
            "verify",
            "check a bundle from the file and the model alone; exit code 0 only if it holds, its logs are proved, and it was reproduced here",
        ),
        ("show", "print what a bundle says, its form, digest and signature checked"),
    ):
        kind = kinds.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".")
        kind.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="machine-readable output")
        if name == "export":
            kind.add_argument(
                "-c", "--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="settings file"
            )
            kind.add_argument("id", type=_digits, metavar="ID", help="the commitment; a beginning is enough")
            kind.add_argument(
                "-o",
                "--output",
                type=Path,
                default=None,
                metavar="FILE",
                help="where to (default: evidence-ID.json here; - is standard output)",
            )
            kind.add_argument(
                "--small",
                type=natural,
                default=1 << 20,
                metavar="BYTES",
                help="put data, and the model, into the bundle up to this size each (default: 1048576)",
            )
            kind.add_argument("--unsigned", action="store_true", help="do not sign, whatever key the settings name")
        else:
            kind.add_argument("file", type=Path, metavar="FILE", help="the bundle")
        if name == "verify":
            kind.add_argument(
                "--model", type=Path, default=None, metavar="FOLDER", help="the model, where it is not in the bundle"
            )
            kind.add_argument(
                "--backend", action="append", choices=_BACKENDS, default=None, help="replay on this one only"
            )
            kind.add_argument(
                "--rpc", default=None, metavar="URL", help="ask this node whether the blocks are the chain's"
            )
            kind.add_argument("--market", type=address, default=None, metavar="ADDRESS", help="insist on this contract")


def _digits(text: str) -> str:
    from challenger.cli.audit_replay import identity

    return identity(text)


def run(options: argparse.Namespace) -> int:
    if options.what == "export":
        settings = settings_of(options)
        reference_only(settings, "evidence")
        return asyncio.run(_export(settings, options))
    sealed = _read(options.file)
    if options.what == "show":
        _show(sealed, as_json=options.json)
        return 0
    return asyncio.run(_verify(sealed, options))


async def _export(settings: Settings, options: argparse.Namespace) -> int:
    from challenger.evidence.gather import gather
    from challenger.evidence.keeper import write
    from challenger.evidence.opened import gathering, named
    from challenger.evidence.seal import decode, encode
    from challenger.parts import load_signer
    from challenger.settings import without_key
    from challenger.store.engine import open_store

    key: Any = None if options.unsigned else load_signer(settings)
    if key is not None and not hasattr(key, "sign_digest"):
        raise ConfigError("[signer] url names a signer that signs transactions only: export with --unsigned")
    async with open_store(settings.store.url) as store:
        commitment = await named(store, options.id)
    async with gathering(without_key(settings), small=options.small) as sources:
        raw = encode(await gather(sources, commitment), key)
    target = options.output or Path(f"evidence-0x{commitment.hex()[:16]}.json")
    if str(target) == "-":
        sys.stdout.buffer.write(raw)
        return 0
    write(target, raw)
    sealed = decode(raw)
    said = sealed.evidence.of(sealed.evidence.verdict)
    assert said is not None, "it was made of it"
    if options.json:
        print_json({"file": str(target), "bytes": len(raw), "digest": sealed.digest, "signer": sealed.signer})
        return 0
    by = f"signed by {sealed.signer}" if sealed.signer else "unsigned"
    print(f"{target}: {said.kind} {said.detail}".rstrip() + f", {len(raw)} bytes, 0x{sealed.digest.hex()}, {by}")
    return 0


def _read(path: Path) -> Sealed:
    from challenger.evidence.seal import MAX_BYTES, decode

    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    try:
        return decode(raw)
    except BundleRefused as error:
        raise BundleRefused(error.detail, file=path) from None


async def _verify(sealed: Sealed, options: argparse.Namespace) -> int:
    from challenger.evidence.check import Finding
    from challenger.evidence.opened import canonical, checked

    found = await checked(sealed, options.model, tuple(options.backend or _BACKENDS))
    if options.rpc is not None:
        asked = await canonical(found.blocks, options.rpc, sealed.evidence.chain)
        found = replace(found, findings=(*found.findings, *asked))
    if options.market is not None and options.market != sealed.evidence.market:
        what = f"the bundle is about {sealed.evidence.market}, not {options.market}"
        found = replace(found, findings=(*found.findings, Finding("market", False, what)))
    done = found.holds and found.replayed and found.proved
    if options.json:
        facts = {"holds": found.holds, "replayed": found.replayed, "proved": found.proved, **_summary(sealed)}
        findings = [finding._asdict() for finding in found.findings]
        blocks = [{"number": block.number, "hash": block.hash} for block in found.blocks]
        print_json({**facts, "provider": found.provider, "findings": findings, "blocks": blocks})
        return 0 if done else 1
    evidence = sealed.evidence
    _say(f"Commitment 0x{evidence.commitment.hex()}")
    _say(f"of provider {found.provider or 'unknown'}, in market {evidence.market} of chain {evidence.chain}\n")
    for part, one, what in found.findings:
        _say(f"{part:<12} {_MARKS[one]:<14} {what}")
    if options.rpc is None and found.blocks:
        _print_blocks(found)
    _say(_conclusion(sealed, found))
    return 0 if done else 1


def _say(line: str) -> None:
    """What a bundle says is never a terminal's command."""
    print("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in line))


def _print_blocks(found: Checked) -> None:
    print("\nThat these blocks are the chain's any node tells you, or --rpc URL:")
    for block in found.blocks:
        print(f"  {block.number}  0x{block.hash.hex()}")
    print()


def _conclusion(sealed: Sealed, found: Checked) -> str:
    said = sealed.evidence.of(sealed.evidence.verdict)
    name = "its verdict" if said is None else f"{said.kind} {said.detail}".rstrip()
    if not found.holds:
        return f"The bundle does NOT hold: {name} is not shown."
    if found.replayed and not found.proved:
        return f"{name}: reproduced here, bit for bit; that the chain says what the bundle does is NOT proved."
    if found.replayed:
        return f"{name}: reproduced here, bit for bit."
    if said is not None and said.kind in _REPLAYED:
        return f"{name}: nothing in the bundle speaks against it, and it was NOT reproduced here."
    return f"{name}: nothing in the bundle speaks against it; no file can show it."


def _summary(sealed: Sealed) -> dict[str, Any]:
    evidence = sealed.evidence
    said = evidence.of(evidence.verdict)
    return {
        "commitment": evidence.commitment,
        "chain": evidence.chain,
        "market": evidence.market,
        "verdict": None if said is None else said.kind,
        "detail": None if said is None else said.detail,
        "digest": sealed.digest,
        "signer": sealed.signer,
    }


def _show(sealed: Sealed, *, as_json: bool) -> None:
    from challenger.evidence.form import as_json as form

    evidence = sealed.evidence
    if as_json:
        print_json({**_summary(sealed), "body": form(evidence)})
        return
    for name, value in _summary(sealed).items():
        _say(f"{name:<12} {'0x' + value.hex() if isinstance(value, bytes) else value}")
    for row in evidence.verdicts:
        _say(f"{'replay':<12} {row.id}: {row.kind} {row.detail} by {row.backend}, {utc(row.time)}")
        for name, value in sorted(json.loads(row.environment).items()):
            _say(f"{'':<12}   {name}: {value}")
    if evidence.difference is not None:
        one = evidence.difference
        _say(
            f"{'difference':<12} {one.name}[{one.element}], tile {one.tile}: committed 0x{one.theirs}, computed 0x{one.mine}"
            + (f" ({one.note})" if one.note else "")
        )
    for name in ("input", "output"):
        datum = getattr(evidence, name)
        size = datum.why if datum.data is None else f"{len(datum.data)} bytes"
        _say(f"{name:<12} 0x{datum.root.hex()}: {size}")
    for name, data in evidence.files.items():
        _say(f"{'file':<12} {name}: {len(data)} bytes")
    _say(f"{'logs':<12} {len(evidence.logs)}, of which {sum(one.proof is not None for one in evidence.logs)} proved")
    _say(f"{'journal':<12} {len(evidence.journal)} entries, {len(evidence.heads)} heads")
    _say(f"{'made':<12} by {evidence.made_by}, at {utc(evidence.made_at)}")
