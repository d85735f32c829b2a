"""What a test says of a recording that no longer replays: one text for a person, and nothing where all is well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from replay.recording.verify import Outcome

#: Differing runs that are explained; the search for a place loads both models for each.
EXPLAINED = 3
#: Outcome.differs → what else may be said of the place.
_UNPLACED = frozenset({"output", "state"})


def complaint(name: str, outcomes: Iterable[Outcome]) -> str:
    """Empty where every run agrees; ``name`` stands for the recording. Reads no further than the third that differs."""
    wrong, count = list[Outcome](), 0
    for outcome in outcomes:
        count += 1
        if not outcome:
            wrong.append(outcome)
        if len(wrong) == EXPLAINED:
            break
    if not wrong:
        return ""
    further = ", and no further one was looked at" if len(wrong) == EXPLAINED else ""
    head = f"{name} does not replay: {len(wrong)} of {count} runs differ{further}"
    return "\n".join([head, *(line for outcome in wrong for line in _told(outcome))])


def _told(outcome: Outcome) -> Iterator[str]:
    """The place first, then what led there."""
    yield f"run {outcome.run} differs in {', '.join(outcome.differs)}"
    found, lines = outcome.divergence, outcome.explanation
    if found is not None:
        yield f"  operator  {found.operator}: {found.kind}" + (f", value {found.value}" if found.value else "")
        if found.tile >= 0:
            yield f"  tile      {found.tile}"
        if found.element >= 0:
            yield f"  element   {found.element}"
        yield f"  recorded  {outcome.recorded}"
        yield f"  here      {outcome.here}"
        if found.note:
            yield f"  note      {found.note}"
        lines = lines[:-1]
    yield from (f"  {line}" for line in lines)
    if found is None and _UNPLACED & set(outcome.differs) and not any("place" in line for line in lines):
        yield "  to have the operator named, record the runs with their model"
