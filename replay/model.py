"""A model: a program and the weights it names, with the roots that identify both."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path

import numpy as np

from replay.errors import LayoutError, ProgramError
from replay.kernels.gridding import grid_rows
from replay.layout import PAD_LEAF, Array, Tree, tile_bytes, tile_count, tile_hashes
from replay.program import Program
from replay.trees import check_trees


@dataclass(frozen=True)
class Model:
    """``weights`` holds, per name, the array as the file gives it (finite); ``linear`` weights are
    gridded when they are hashed or prepared (``held`` has a model that a backend holds). Raises ``ProgramError`` when weights and program do not fit."""

    program: Program
    weights: Mapping[str, Array]

    def __post_init__(self) -> None:
        self.program.validate()
        if set(self.weights) != {weight.name for weight in self.program.weights}:
            raise ProgramError("the weights given are not the ones the program names")
        for weight in self.program.weights:
            array = self.weights[weight.name]
            if array.dtype != np.dtype(weight.dtype) or array.shape != weight.shape:
                raise ProgramError(f"weight {weight.name} is {array.dtype}{list(array.shape)}, not as declared")
            if array.dtype == np.float32 and not np.isfinite(array).all():
                raise ProgramError(f"weight {weight.name} holds NaN or infinity")
            if weight.form == "grid" and np.abs(array).max() >= np.float32(2.0**100):
                raise ProgramError(f"weight {weight.name} holds a value of 2¹⁰⁰ or more")
        for op in self.program.operators:
            if op.kind == "tree_leaves":
                check_trees(op, [self.weights[name] for name in op.weights])

    @property
    def program_root(self) -> bytes:
        return self.program.root

    @property
    def artefact_root(self) -> bytes:
        """Root over all tiles of all weight tensors, flat, in program order; without weights, that of one pad leaf."""
        return self._artefact[0]

    @property
    def artefact_tiles(self) -> int:
        return self._artefact[1]

    @property
    def boundaries(self) -> int:
        """How many leaves the state root has: input, boundaries, output."""
        return len(self.program.boundaries) + 2

    @cached_property
    def artefact(self) -> Tree:
        """Kept from the first tile that is opened: it takes a sixteenth of the weights' memory."""
        return self._tree()

    @cached_property
    def _artefact(self) -> tuple[bytes, int]:
        """(root, tiles)."""
        tree = self._tree()
        return tree.root, tree.size

    def _tree(self) -> Tree:
        return Tree([leaf for array in self._tensors() for leaf in tile_hashes(array)] or [PAD_LEAF])

    def artefact_tile(self, index: int) -> tuple[bytes, tuple[bytes, ...]]:
        """Tile ``index`` (1,024 bytes) with its path to the artefact root. Raises ``LayoutError``."""
        path, first = self.artefact.path(index), 0
        for array in self._tensors():
            count = tile_count(array.shape, array.dtype)
            if index < first + count:
                return tile_bytes(array, index - first), path
            first += count
        raise LayoutError(f"tile {index} is outside the artefact")

    def _tensors(self) -> Iterator[Array]:
        """The artefact's tensors: a raw weight as it is; a gridded one as int32 [N, K] and its exponents int32 [N]."""
        for weight in self.program.weights:
            array = self.weights[weight.name]
            if weight.form == "raw":
                yield array
            else:
                yield from grid_rows(array, self.program.grid_bits[weight.name])


#: A manifest's format → the module and the function that make a model of its files. Loaded when one is needed.
_IMPORTERS: Mapping[str, tuple[str, str]] = {
    "onnx": ("replay.importers.onnx", "import_onnx"),
    "bert": ("replay.importers.bert", "import_bert"),
    "gpt2": ("replay.importers.gpt2", "import_gpt2"),
    "llama": ("replay.importers.llama", "import_llama"),
}


def load_model(manifest: str | os.PathLike[str], file_digest: bytes | None = None, grid: str | None = None) -> Model:
    """The model that a manifest names. ``file_digest``: the SHA-256 that the manifest's bytes must have; ``grid``: the one
    to use in place of the manifest's, which makes it another model.

    Raises ``TypeError`` for what is no path, ``ModelRefused`` (``ManifestRefused``, ``FileMismatch``, ``MalformedFile``, ``LimitExceeded``,
    ``UnsupportedModel``, ``UnsupportedOperator``) or ``ProgramError``. Nothing is parsed before its digest is verified.
    """
    from replay.importers.manifest import read_manifest

    if not isinstance(manifest, str | os.PathLike):
        raise TypeError(f"a manifest is named by its path, not by {type(manifest).__name__}")
    bundle = read_manifest(Path(manifest), file_digest)
    bundle = bundle if grid is None else replace(bundle, grid=grid)
    module, importer = _IMPORTERS[bundle.format]
    made: Model = getattr(import_module(module), importer)(bundle)
    return made
