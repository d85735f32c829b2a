"""Deterministic inference verification: a model as data, exact operators, one bit of difference is proof."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replay.artifacts import ArtifactStore
    from replay.errors import ReplayError
    from replay.layout import bundle_root, decode_bundle, encode_bundle
    from replay.localise import Divergence, Refuted, first_difference
    from replay.model import Model, load_model
    from replay.program import Program
    from replay.sampling import Sampling
    from replay.sandbox import Completed, Inconclusive, Limits, Reason, ReplayPool, ReplayRequest
    from replay.trace import Receipt, commit
    from replay.witness import Witness

#: public name → the module that is loaded when it is first used, so that `import replay` loads none of them
_HOMES = {
    "ArtifactStore": "artifacts",
    "ReplayError": "errors",
    "bundle_root": "layout",
    "decode_bundle": "layout",
    "encode_bundle": "layout",
    "Divergence": "localise",
    "Refuted": "localise",
    "first_difference": "localise",
    "Model": "model",
    "load_model": "model",
    "Program": "program",
    "Sampling": "sampling",
    "Completed": "sandbox",
    "Inconclusive": "sandbox",
    "Limits": "sandbox",
    "Reason": "sandbox",
    "ReplayPool": "sandbox",
    "ReplayRequest": "sandbox",
    "Receipt": "trace",
    "commit": "trace",
    "Witness": "witness",
}

__all__ = [
    "ArtifactStore",
    "Completed",
    "Divergence",
    "Inconclusive",
    "Limits",
    "Model",
    "Program",
    "Reason",
    "Receipt",
    "Refuted",
    "ReplayError",
    "ReplayPool",
    "ReplayRequest",
    "Sampling",
    "Witness",
    "bundle_root",
    "commit",
    "decode_bundle",
    "encode_bundle",
    "first_difference",
    "load_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
