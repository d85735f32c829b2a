"""What a provider commits to: roots of input, output and layer boundaries, with the paths the contract checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from replay.layout import PAD_LEAF, Array, Tree, bundle_root, encode_bundle, tensor_root
from replay.model import Model
from replay.run import Prepared, execute


@dataclass(frozen=True, slots=True)
class Receipt:
    """``leaves`` are the state root's leaves (first input, last output); ``output`` is the canonical output bundle."""

    input_root: bytes
    output_root: bytes
    state_root: bytes
    leaves: tuple[bytes, ...]
    output: bytes
    first_path: tuple[bytes, ...]
    last_path: tuple[bytes, ...]
    environment: Mapping[str, str]
    seconds: float


def commit(model: Model | Prepared, inputs: Mapping[str, Array], backend: str = "torch") -> Receipt:
    """Run the model and commit to what was computed: all that an honest provider does. Raises ``InputRejected``."""
    run = execute(model, inputs, backend)
    output = encode_bundle(run.outputs)
    leaves = (
        bundle_root(inputs),
        *(PAD_LEAF if tensor is None else tensor_root(tensor) for tensor in run.boundaries),
        bundle_root(output),
    )
    tree = Tree(leaves)
    return Receipt(
        input_root=leaves[0],
        output_root=leaves[-1],
        state_root=tree.root,
        leaves=leaves,
        output=output,
        first_path=tree.path(0),
        last_path=tree.path(len(leaves) - 1),
        environment=dict(run.environment),
        seconds=run.seconds,
    )
