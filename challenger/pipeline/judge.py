"""From what was committed and what the replay gave to a verdict. Pure, total, and never FRAUD by default."""

from __future__ import annotations

from dataclasses import dataclass

from challenger.domain import Hash32, Verdict, VerdictKind
from replay.backends import unrelated


@dataclass(frozen=True, slots=True)
class Observed:
    """What one replay computed from the committed input; ``output`` is the canonical bundle."""

    backend: str
    input_root: Hash32
    output_root: Hash32
    state_root: Hash32
    environment: dict[str, str]
    seconds: float
    output: bytes = b""


def judge(input_root: Hash32, output_root: Hash32, state_root: Hash32, observed: Observed) -> Verdict:
    """VALID iff every committed root is the computed one; FRAUD names the first that differs.

    A replay of another input says nothing of this commitment: INCONCLUSIVE.
    """

    def verdict(kind: VerdictKind, detail: str) -> Verdict:
        return Verdict(
            kind,
            detail,
            observed.backend,
            observed.output_root,
            observed.state_root,
            observed.environment,
            observed.seconds,
        )

    if observed.input_root != input_root:
        return verdict(VerdictKind.INCONCLUSIVE, "input: the replayed input is not the task's")
    if observed.output_root != output_root:
        return verdict(VerdictKind.FRAUD, "output")
    if observed.state_root != state_root:
        return verdict(VerdictKind.FRAUD, "state")
    return verdict(VerdictKind.VALID, "")


def inconclusive(reason: str, backend: str) -> Verdict:
    return Verdict(VerdictKind.INCONCLUSIVE, reason, backend, None, None, {}, 0.0)


def unavailable(what: str) -> Verdict:
    return Verdict(VerdictKind.UNAVAILABLE, what, "", None, None, {}, 0.0)


def confirms(first: Verdict, second: Verdict) -> str:
    """Why ``second`` does not reproduce the FRAUD of ``first``; empty when it does.

    Both must be FRAUD, on backends that share no kernel code, with the same computed roots bit for bit.
    """
    if first.kind is not VerdictKind.FRAUD:
        return f"nothing to confirm: the first verdict is {first.kind}"
    if not unrelated(first.backend, second.backend):
        return f"the second backend, {second.backend}, is related to the first, {first.backend}"
    if second.kind is not VerdictKind.FRAUD:
        return f"{second.backend} says {second.kind} {second.detail}".rstrip()
    if (second.output_root, second.state_root) != (first.output_root, first.state_root):
        return f"{first.backend} and {second.backend} compute different roots"
    return ""
