"""What the world needs of a model: its files and those of its false twins, the roots that are registered, its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from challenger.domain import Hash32
from challenger.protocols.reference_calls import ModelSpec
from challenger.sim.workshop import Artefact, Variant
from replay.kernels.spec import SPEC_VERSION


@dataclass(frozen=True, slots=True)
class Kit:
    """``sample(n)``: the n-th input as a bundle, all different. ``known``: the input of the known-answer pair. ``draws``:
    whether an answer depends on the task's seed, so that nobody can work it out before the task is taken."""

    name: str
    variants: Mapping[Variant, Artefact]
    program_root: Hash32
    artefact_root: Hash32
    artefact_tiles: int
    boundaries: int
    known: bytes
    sample: Callable[[int], bytes]
    draws: bool = False

    def spec(self, known_output_root: Hash32) -> ModelSpec:
        artefact = self.variants[Variant.REGISTERED]
        return ModelSpec(
            file_digest=Hash32(artefact.file_digest),
            artefact_root=self.artefact_root,
            program_root=self.program_root,
            spec_version=SPEC_VERSION,
            mode=0,
            boundaries=self.boundaries,
            artefact_tiles=self.artefact_tiles,
            uri=artefact.manifest.resolve().as_uri(),
            known_input=self.known,
            known_output_root=known_output_root,
        )
