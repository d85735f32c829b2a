"""What a provider commits to: roots of input, output and layer boundaries, with the paths the contract checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from replay.errors import LayoutError
from replay.generate import asks, generate, read_job
from replay.layout import PAD_LEAF, Array, Tree, bundle_root, decode_bundle, encode_bundle, tensor_root
from replay.model import Model
from replay.run import Prepared, Run, execute, prepare
from replay.sampling import TOKENS


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


def commit(
    model: Model | Prepared,
    inputs: Mapping[str, Array],
    backend: str = "torch",
    *,
    seed: bytes = b"",
    claim: bytes = b"",
) -> Receipt:
    """Run the model and commit to what was computed: all that an honest provider does. Raises ``InputRejected``.

    ``seed`` (32 bytes) is wanted where the inputs ask for a generation. ``claim``: an output bundle that somebody says came
    out; it makes checking a generation cheap and changes nothing else.
    """
    prepared = model if isinstance(model, Prepared) else prepare(model, backend)
    return receipt(inputs, run_job(prepared, inputs, seed, claimed_tokens(claim)), prepared.kernels.root)


def run_job(prepared: Prepared, inputs: Mapping[str, Array], seed: bytes, claim: Sequence[int] = ()) -> Run:
    """One run, or one generation where the inputs ask for it."""
    if not asks(inputs):
        return execute(prepared, inputs)
    return generate(prepared, read_job(prepared.model.program, inputs, seed), claim)


def receipt(inputs: Mapping[str, Array], run: Run, root: Callable[[Array], bytes] = tensor_root) -> Receipt:
    """The commitment to a run on these inputs. ``root``: what computes ``layout.tensor_root``."""
    output = encode_bundle(run.outputs)
    leaves = state_leaves(inputs, run, output, root)
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


def state_leaves(
    inputs: Mapping[str, Array], run: Run, output: bytes, root: Callable[[Array], bytes] = tensor_root
) -> tuple[bytes, ...]:
    """Input root, boundary roots (the pad leaf for those that were not reached), output root."""
    return (
        bundle_root(inputs, root),
        *(PAD_LEAF if tensor is None else root(tensor) for tensor in run.boundaries),
        bundle_root(output, root),
    )


def claimed_tokens(claim: bytes) -> list[int]:
    """The tokens of an output bundle; none where it is no such bundle, for a claim is a hint and no more."""
    try:
        tensors = decode_bundle(claim) if claim else {}
    except LayoutError:
        return []
    tokens = tensors.get(TOKENS)
    good = tokens is not None and tokens.ndim == 1 and tokens.dtype.kind == "i"
    return [int(token) for token in tokens] if good and tokens is not None else []
