"""The compiled functions: loaded once per process, and only while the file's bytes have the digest taken when it was built
(``native_build``). Who can replace the file between that check and the loading is the user who runs this process."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import Any

from torch import Tensor

from replay.errors import BackendRefused
from replay.kernels import native_build

_P, _L, _I, _D, _S = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_double, ctypes.c_float
_SIGNATURES: dict[str, Sequence[Any]] = {
    "rpl_compiler": (),
    "rpl_grid64": (_P, _L, _L, _I, _P, _P),
    "rpl_digits": (_P, _L, _L, _L, _I, _I, _P, _P, _P),
    "rpl_finish64": (_P, _L, _L, _P, _P),
    "rpl_finish32": (_P, _L, _I, _P, _L, _L, _L, _P, _P, _P, _P),
    "rpl_norm": (_P, _L, _L, _I, ctypes.c_int, _D, _D, _S, _P, _P, _P, _P),
    "rpl_gelu_tanh": (_P, _L, _P),
    "rpl_gelu_erf": (_P, _L, _P),
    "rpl_silu": (_P, _L, _P),
    "rpl_scale": (_P, _L, _D, _P),
    "rpl_weights": (_P, _L, _L, _L, _L, _P, _P, _P, _L, _P, _P),
    "rpl_attention_room": (_L, _L, _L),
    "rpl_attention": (_P, _L, _L, _L, _L, _I, _L, _P, _I, _I, _D, _P, _P, _P, _L),
    "rpl_team": (_P,),
    "rpl_dot_kind": (),
    "rpl_dot_room": (_L, _L, _I),
    "rpl_dot_pack": (_P, _L, _L, _I, _I, _P, _P, _P),
    "rpl_dot": (_P, _L, _L, _I, _I, _P, _P, _P, _L, _I, _P, _P, _P, _P, _L),
    "rpl_sha": (),
    "rpl_root": (_P, _L, _L, _P, _L),
}


@cache
def library() -> Any:
    """The compiled functions. Raises ``BackendRefused``."""
    path, digest = native_build.build()
    try:
        if sha256(path.read_bytes()).hexdigest() != digest:
            raise BackendRefused(f"{path.name} is not the library that was built", backend="native")
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise BackendRefused(f"{path.name} cannot be loaded: {error}", backend="native") from error
    for name, arguments in _SIGNATURES.items():
        getattr(loaded, name).argtypes = arguments
    loaded.rpl_dot_room.restype = loaded.rpl_attention_room.restype = _L
    loaded.rpl_compiler.restype = ctypes.c_char_p
    runtime = ctypes.CDLL(None)  # what torch loads for all to see
    if hasattr(runtime, "GOMP_parallel"):
        loaded.rpl_team(ctypes.cast(runtime.GOMP_parallel, _P))
    return loaded


def at(tensor: Tensor | None) -> int | None:
    """Where the elements of a contiguous tensor in this machine's memory lie. Raises ``BackendRefused`` for any other: C++
    would read what is not there."""
    if tensor is None:
        return None
    if tensor.device.type != "cpu" or not tensor.is_contiguous():
        kind = "strided" if tensor.device.type == "cpu" else f"on the device {tensor.device}"
        raise BackendRefused(f"the compiled kernels take whole tensors of the CPU, not one {kind}", backend="native")
    return tensor.data_ptr()
