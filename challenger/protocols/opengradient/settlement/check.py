"""What does not hold of settlements, from the chain's logs, the published blobs and the enclaves' timeline. Pure but for
what it remembers of earlier ones.

Whom a finding names. What a settler put on chain or did not publish is the settler's (the account that sent the
transaction), and so is a signature that does not hold: nothing says then that the enclave had any part in it. An enclave
is named only by what its own valid signature says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from challenger.chain.hashing import keccak
from challenger.domain import Address, At
from challenger.protocols.findings import Finding, Ground
from challenger.protocols.opengradient.settlement.blobs import Batch, blob_name, misfit, read_batch
from challenger.protocols.opengradient.settlement.enclaves import Status, Timeline
from challenger.protocols.opengradient.settlement.fetch import Served
from challenger.protocols.opengradient.settlement.seen import Seen
from challenger.protocols.opengradient.settlement.settled import Inference
from challenger.protocols.opengradient.settlement.settlements import BatchSettled, IndividualSettled, Settlement
from challenger.protocols.opengradient.settlement.signatures import KeyRefused, plain, read_key, signed

#: The hand-offs: enclave to settler, settler to chain, settler to storage.
SIGNING, SETTLEMENT, PUBLICATION = "signing", "settlement", "publication"
#: What is remembered: roots, batches that were examined, inferences with their signatures, tuples with one that holds.
_ROOT, _EXAMINED, _INFERENCE, _TUPLE = b"r", b"e", b"i", b"t"
#: So many sources that serve the same bytes are more than one source's word.
WITNESSES = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds. ``heartbeat``: how long a heartbeat is good for (None: the registry knows none); ``age``: how old an
    inference may be when it is settled, ``future``: how far ahead of the block its time may lie; ``skew``: how far an
    enclave's clock may be off: it is blamed for its status only if it was at no moment within this of its word fit to
    sign. The defaults are what the deployed contracts say (``skew``: what they forgive, ``FUTURE_TOLERANCE``)."""

    heartbeat: int | None = 1800
    age: int = 3600
    future: int = 300
    skew: int = 300


class Earlier(NamedTuple):
    """A registry that was asked before the one that settlements are checked against, ``until`` (UTC seconds) another took
    its place; ``timeline`` is None where it is not known."""

    timeline: Timeline | None
    until: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """``settlements`` in chain order, all checked against one registry. ``times``: of their blocks (UTC seconds).
    ``settlers``: who sent each transaction. ``served``: by place (block, log index); a settlement that is missing there
    was not asked for. ``timeline``: of the registry; ``keys``: public keys (DER) of the enclaves that are kept.
    ``older_leaves``: whether batches may name no signers. ``earlier``: registries that were asked before."""

    settlements: Sequence[Settlement]
    times: Mapping[int, int]
    settlers: Mapping[bytes, Address]
    served: Mapping[tuple[int, int], Served]
    timeline: Timeline
    keys: Mapping[bytes, bytes]
    limits: Limits = Limits()
    older_leaves: bool = False
    earlier: Sequence[Earlier] = ()


def findings(evidence: Evidence, seen: Seen | None = None) -> list[Finding]:
    """Everything that does not hold, in chain order. ``seen``: what stands before it on the chain, to which it is added.
    ``OwnDisk``."""
    with nullcontext(seen) if seen is not None else closing(Seen()) as before:
        return _Check(evidence, before).run()


@dataclass(slots=True)
class _Check:
    evidence: Evidence
    seen: Seen
    found: list[Finding] = field(default_factory=list)

    def run(self) -> list[Finding]:
        keys = cache(self._key)
        for settlement in self.evidence.settlements:
            if isinstance(settlement, BatchSettled):
                inferences, batch = self._batch(settlement)
            else:
                self._single(settlement)
                inferences, batch = (_plainly(settlement.inference),), None
            for inference in inferences:
                self._inference(inference, settlement.at, keys(inference.tee), batch)
        return self.found

    # batches and blobs

    def _batch(self, settled: BatchSettled) -> tuple[Iterable[Inference], bytes | None]:
        """Its inferences, when the root binds them and they were not looked at before."""
        facts = {"root": _hex(settled.root), "size": str(settled.size)}
        before = self.seen.first(_ROOT + settled.root, settled.at)
        if before.elsewhere(settled.at):
            said = f"the batch was settled before, in block {before.block}, log {before.log_index}"
            self._add("duplicate-settlement", settled.root, SETTLEMENT, settled.at, said, facts)
        published = self._published(settled, settled.root, facts)
        if published is None:
            return (), None
        batch = read_batch(published)
        if batch.size != settled.size:
            said = f"the chain says {settled.size} inferences, the batch of that root has {batch.size}"
            self._add("batch-size-mismatch", settled.root, SETTLEMENT, settled.at, said, facts)
        if not batch.inferences and not self.evidence.older_leaves:
            said = "the leaves of the batch name neither who signed nor when, so that nothing of it can be checked"
            self._add("blob-malformed", settled.root, PUBLICATION, settled.at, said, facts)
        if self.seen.first(_EXAMINED + settled.root, settled.at).elsewhere(settled.at):
            return (), None
        return self._once_each(batch, settled), settled.root

    def _once_each(self, batch: Batch, settled: BatchSettled) -> Iterable[Inference]:
        """Equal leaves of one batch are examined once, and counted here."""
        counts = Counter(map(_plainly, batch.inferences))
        for inference, times in counts.items():
            if times > 1:
                said = f"the batch holds the same signed inference {times} times"
                facts = {"root": _hex(settled.root), **_facts(inference)}
                self._add("duplicate-settlement", inference.tuple_key, SETTLEMENT, settled.at, said, facts)
        return counts

    def _single(self, settled: IndividualSettled) -> None:
        self._published(settled, settled.inference.tuple_key, _facts(settled.inference))

    def _published(self, settled: Settlement, subject: bytes, facts: dict[str, str]) -> bytes | None:
        """The blob's bytes when they fit the settlement; else a finding, unless nobody asked for them."""
        try:
            name = blob_name(settled.blob)
        except ValueError as error:
            said = f"nothing was published of it: the chain holds {error}"
            self._add("blob-missing", subject, PUBLICATION, settled.at, said, facts)
            return None
        served = self.evidence.served.get((settled.at.block, settled.at.log_index))
        if served is None:
            return None
        if served.data is None:
            said = f"what was to be published of it could not be had: {served.why}"
            self._add("blob-missing", subject, PUBLICATION, settled.at, said, facts, ground=Ground.ABSENCE)
            return None
        try:
            why, kind = misfit(settled, served.data), "blob-mismatch"
        except ValueError as error:
            why, kind = str(error), "blob-malformed"
        if why is None:
            return served.data
        if kind == "blob-mismatch" and isinstance(settled, BatchSettled):
            kind = "batch-root-mismatch"
        # one source may serve what it likes; the id does not show it
        ground = Ground.PROOF if served.witnesses >= WITNESSES else Ground.ABSENCE
        said = f"what is served as its blob does not fit the chain: {why}"
        facts = {**facts, "blob": name, "witnesses": str(served.witnesses)}
        self._add(kind, subject, PUBLICATION, settled.at, said, facts, ground=ground)
        return None

    # one inference

    def _inference(self, one: Inference, at: At, key: RSAPublicKey | str | None, batch: bytes | None) -> None:
        limits, timelines = self.evidence.limits, self._asked(one.timestamp)
        known = [timeline for timeline in timelines if timeline is not None]
        facts = _facts(one) | ({"root": _hex(batch)} if batch else {})
        subject, enclave = one.tuple_key, _hex(one.tee)
        before = self.seen.first(_INFERENCE + one.leaf, at)
        if before.elsewhere(at):
            said = f"the same signed inference was settled before, in block {before.block}, log {before.log_index}"
            self._add("duplicate-settlement", subject, SETTLEMENT, at, said, facts)
            return
        statuses = [timeline.status_at(one.tee, one.timestamp) for timeline in known]
        status = next((status for status in statuses if status is not Status.UNKNOWN), Status.UNKNOWN)
        if status is Status.UNKNOWN and None in timelines:
            return
        if status is Status.UNKNOWN:
            said = f"it is settled in the name of {enclave}, of which the registry knows nothing"
            self._add("signer-unknown", subject, SETTLEMENT, at, said, facts)
            return
        if not isinstance(key, RSAPublicKey):
            said = f"its signature cannot be checked: {key or 'the registry keeps no key of its signer'}"
            self._add("key-unusable", subject, SIGNING, at, said, facts, party=enclave, ground=Ground.ABSENCE)
            return
        if not signed(one, key):
            said = f"it is settled with a signature that {enclave} did not make"
            self._add("bad-signature", subject, SETTLEMENT, at, said, facts)
            return
        self._alike(one, at, facts)
        around = one.timestamp - limits.skew, one.timestamp + limits.skew
        if None not in timelines and not any(timeline.ever_ok(one.tee, *around) for timeline in known):
            said = f"the enclave signed it at {one.timestamp}, when it was {_WORDS[status]}"
            facts |= {"heartbeat_limit": str(limits.heartbeat), "skew": str(limits.skew)}
            self._add(f"signer-{status}", subject, SIGNING, at, said, facts, party=enclave)
        age = self.evidence.times[at.block] - one.timestamp
        if age > limits.age:
            said = f"it was {age} s old when it was settled, {limits.age} s are allowed"
            self._add("stale-inference", subject, SETTLEMENT, at, said, facts)
        if -age > limits.future:
            said = f"the enclave signed a time {-age} s after its settlement, {limits.future} s are allowed"
            self._add("future-inference", subject, SIGNING, at, said, facts, party=enclave)

    def _asked(self, time: int) -> list[Timeline | None]:
        """Of the registries that were asked from ``time`` to the settlement: what one of them knew stands for an inference,
        though it is settled under another. None for one that is not known."""
        before = [one.timeline for one in self.evidence.earlier if time - self.evidence.limits.skew < one.until]
        return [*before, self.evidence.timeline]

    def _alike(self, one: Inference, at: At, facts: dict[str, str]) -> None:
        before = self.seen.first(_TUPLE + one.tuple_key, at, keccak(one.signature))
        if before.mark != keccak(one.signature):
            said = (
                f"the same tuple was settled with another signature in block {before.block}, log {before.log_index}: one"
                " inference twice, or two that are alike within one second"
            )
            self._add("tuple-signed-twice", one.tuple_key, SETTLEMENT, at, said, facts)

    def _key(self, tee: bytes) -> RSAPublicKey | str | None:
        """Why there is none as text; None when the registry keeps none."""
        public = self.evidence.keys.get(tee)
        try:
            return None if public is None else read_key(public)
        except KeyRefused as error:
            return str(error)

    def _add(
        self,
        kind: str,
        subject: bytes,
        hop: str,
        at: At,
        said: str,
        facts: dict[str, str],
        *,
        party: str = "",
        ground: Ground = Ground.PROOF,
    ) -> None:
        party = party or self.evidence.settlers[at.tx_hash]
        self.found.append(Finding(kind, subject, hop, party, ground, said, at, dict(facts)))


_WORDS = {
    Status.OK: "fit to sign",
    Status.UNREGISTERED: "not registered yet",
    Status.REVOKED: "running a measurement that is revoked",
    Status.DISABLED: "disabled",
    Status.SILENT: "silent: its last heartbeat was too long ago",
}


def _plainly(one: Inference) -> Inference:
    """However its signature is written: it is the same signed inference."""
    return one._replace(signature=plain(one.signature))


def _facts(one: Inference) -> dict[str, str]:
    return {
        "tee": _hex(one.tee),
        "input_hash": _hex(one.input_hash),
        "output_hash": _hex(one.output_hash),
        "timestamp": str(one.timestamp),
    }


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
