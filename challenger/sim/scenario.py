"""Who answers which task, and who cheats how: a pure plan, the same for the same knobs.

Four honest and six cheating providers share the tasks of three models in turn. A cheat does not cheat always: half of
its answers are honest, so that a watcher which knows its man still has to look at each commitment.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a provider does on the tasks where it cheats."""

    HONEST = "honest"
    INT8 = "int8 weights"
    OLDER = "older model"
    NUDGE = "one bit nudged"
    TRUNCATE = "input truncated"
    COPY = "output copied"
    WITHHOLD = "data withheld"


CHEATS = tuple(kind for kind in Kind if kind is not Kind.HONEST)
#: A classifier (ONNX), a sentence encoder, and a language model that writes a few words.
DIGITS, SENTENCES, TEXTS = "digits", "sentences", "texts"
MODELS = (DIGITS, SENTENCES, TEXTS)
_HONEST_NAMES = ("alder", "birch", "cedar", "elm")
_CHEAT_NAMES = ("hazel", "maple", "oak", "pine", "rowan", "willow")


@dataclass(frozen=True, slots=True)
class Knobs:
    """``tasks`` is the number of commitments; ``sentences`` and ``texts`` per cent of them go to the sentence encoder and
    to the language model, ``cheating`` per cent of a cheat's answers are false, ``by_uri`` per cent of the inputs and of the outputs are
    given by URI instead of inline. ``cheats`` leaves out the others; ``round_size`` tasks are open at a time."""

    tasks: int = 62
    seed: int = 1
    cheating: int = 50
    sentences: int = 30
    texts: int = 20
    by_uri: int = 25
    round_size: int = 10
    cheats: tuple[Kind, ...] = CHEATS
    models: tuple[str, ...] = MODELS

    def __post_init__(self) -> None:
        if self.tasks < 1 or self.round_size < 1:
            raise ValueError("a scenario needs at least one task, and rounds of at least one")
        for name in ("cheating", "sentences", "texts", "by_uri"):
            if not 0 <= getattr(self, name) <= 100:
                raise ValueError(f"{name} is a percentage")
        if self.sentences + self.texts > 100:
            raise ValueError("sentences and texts are at most 100 per cent together")


@dataclass(frozen=True, slots=True)
class ProviderPlan:
    """``account`` counts from 0 among the providers."""

    name: str
    kind: Kind
    account: int


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """``sample`` numbers the model's inputs; ``copy_of`` is the task whose output is handed in instead (COPY only)."""

    index: int
    round: int
    model: str
    sample: int
    provider: ProviderPlan
    cheats: bool
    input_by_uri: bool
    output_by_uri: bool
    copy_of: int | None

    @property
    def kind(self) -> Kind:
        """What this one answer is."""
        return self.provider.kind if self.cheats else Kind.HONEST


@dataclass(frozen=True, slots=True)
class Scenario:
    knobs: Knobs
    providers: tuple[ProviderPlan, ...]
    tasks: tuple[TaskPlan, ...]

    @property
    def rounds(self) -> tuple[tuple[TaskPlan, ...], ...]:
        grouped = itertools.groupby(self.tasks, key=lambda task: task.round)
        return tuple(tuple(group) for _, group in grouped)


def plan(knobs: Knobs) -> Scenario:
    """Deals the tasks out. Every cheat cheats on its first task, so that even a short run shows each of them once."""
    dice = random.Random(knobs.seed)  # noqa: S311  a plan, not a secret
    providers = _providers(knobs.cheats)
    served = {provider.name: 0 for provider in providers}
    falsehoods = {provider.name: 0 for provider in providers}
    samples = dict.fromkeys(knobs.models, 0)
    tasks: list[TaskPlan] = []
    models = _interleaved(knobs)
    for index in range(knobs.tasks):
        provider = providers[index % len(providers)]
        model = models[index]
        copied = _another(tasks, model, dice) if provider.kind is Kind.COPY else None
        possible = provider.kind is not Kind.HONEST and (provider.kind is not Kind.COPY or copied is not None)
        served[provider.name] += 1
        # the first is false, then as many as the share says, never more
        due = falsehoods[provider.name] * 100 < knobs.cheating * served[provider.name]
        cheats = possible and knobs.cheating > 0 and due
        falsehoods[provider.name] += cheats
        withheld = cheats and provider.kind is Kind.WITHHOLD
        tasks.append(
            TaskPlan(
                index=index,
                round=index // knobs.round_size,
                model=model,
                sample=samples[model],
                provider=provider,
                cheats=cheats,
                input_by_uri=dice.randrange(100) < knobs.by_uri,
                output_by_uri=dice.randrange(100) < knobs.by_uri or withheld,
                copy_of=copied if cheats else None,
            )
        )
        samples[model] += 1
    return Scenario(knobs, providers, tuple(tasks))


def _providers(cheats: tuple[Kind, ...]) -> tuple[ProviderPlan, ...]:
    """Honest ones first: the copying cheat finds something to copy."""
    named = [(name, Kind.HONEST) for name in _HONEST_NAMES]
    named += [(name, kind) for name, kind in zip(_CHEAT_NAMES, CHEATS, strict=True) if kind in cheats]
    return tuple(ProviderPlan(name, kind, number) for number, (name, kind) in enumerate(named))


def _interleaved(knobs: Knobs) -> list[str]:
    """One model name per task, mixed evenly over the providers' turns as well as over time."""
    if len(knobs.models) == 1:
        return [knobs.models[0]] * knobs.tasks
    dice = random.Random(f"models {knobs.seed}")  # noqa: S311
    chosen: list[str] = []
    shares = {SENTENCES: knobs.sentences, TEXTS: knobs.texts, DIGITS: 100 - knobs.sentences - knobs.texts}
    while len(chosen) < knobs.tasks:
        block = [name for name, share in shares.items() if name in knobs.models for _ in range(round(share / 5))]
        dice.shuffle(block)
        chosen += block
    return chosen[: knobs.tasks]


def _another(tasks: list[TaskPlan], model: str, dice: random.Random) -> int | None:
    """An earlier task of this model that was answered honestly: its output is public by then."""
    honest = [task.index for task in tasks if task.model == model and not task.cheats]
    return dice.choice(honest) if honest else None
