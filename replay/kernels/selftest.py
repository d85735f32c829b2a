"""Known answers: small programs at worst-case magnitudes, whose exact bits are frozen here.

A backend that gives one other bit is refused before it may judge anybody. Inputs come from a SHA-256 counter stream,
so that no random number generator stands between two machines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from replay.importers.build import Builder
from replay.layout import Array, encode_bundle
from replay.operators import TensorType
from replay.program import Port
from replay.run import execute, load_backend, prepare_with


@dataclass(frozen=True, slots=True)
class Answer:
    """One row of the self-test: ``detail`` is the digest got, with the one wanted when they differ."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Case:
    """``shape``: of the input ``x``; ``build``: adds operators to it and returns the output's value; ``x``: its bits."""

    name: str
    x: Array
    build: Callable[[Builder], str]


def words(label: str, *shape: int) -> Array:
    """uint32 numbers of this shape from the SHA-256 counter stream of ``label``."""
    count = int(np.prod(shape))
    blocks = [sha256(f"known/0/{label}/{block}".encode()).digest() for block in range(-(-count // 8))]
    return np.frombuffer(b"".join(blocks), "<u4")[:count].reshape(shape)


def floats(label: str, *shape: int, low: int, high: int) -> Array:
    """float32 of both signs, biased exponents uniform in [low, high], mantissas uniform."""
    raw = words(label, *shape)
    exponent = low + (words(f"{label}/exponent", *shape) >> np.uint32(8)) % np.uint32(high - low + 1)
    bits = (raw & np.uint32(0x807FFFFF)) | (exponent.astype(np.uint32) << np.uint32(23))
    return bits.astype(np.uint32).view(np.float32)


def _linear(rows: int, length: int, low: int, high: int, *, bias: bool, positive: bool = False) -> Case:
    label = f"linear/{rows}x{length}/{low}-{high}/{int(bias)}{int(positive)}"
    x = floats(label, rows, length, low=low, high=high)
    weight = floats(f"{label}/w", 24, length, low=low, high=high)
    if positive:
        x, weight = np.abs(x), np.abs(weight)
    shift = floats(f"{label}/b", 24, low=low, high=high) if bias else None
    return Case(label, x, lambda b: b.linear("x", "l", weight, shift))


def _corner() -> Case:
    """|q| = 2^b everywhere on both sides and K = 512: the sum is exactly 2⁵³."""
    top = np.uint32(0x3FFFFFFF).view(np.float32)
    return Case(
        "linear/corner",
        np.full((3, 512), top),
        lambda b: b.linear("x", "l", np.full((24, 512), top), np.full(24, -1.0, np.float32)),
    )


def _attention(tokens: int, heads: int, groups: int, size: int, *, causal: bool, spread: int) -> Case:
    label = f"attention/{tokens}/{heads}.{groups}x{size}/{'causal' if causal else 'both'}/{spread}"
    x = floats(label, tokens, (heads + 2 * groups) * size, low=127 - spread, high=128)
    return Case(label, x, lambda b: b.attention("x", heads, groups, size, causal=causal))


def _masked() -> Case:
    """Logits near −1e33 on the only allowed position: a mask value of −1e30 would let the future through."""
    x = np.zeros((2, 24), np.float32)
    x[0, :8], x[:, 8:16] = -1e17, 1e17
    x[0, 16:], x[1, 16:] = 1.0, 2.0
    return Case("attention/masked", x, lambda b: b.attention("x", 1, 1, 8, causal=True))


def _norm(rows: int, size: int, eps: float, outlier: float) -> Case:
    label = f"layer_norm/{rows}x{size}/{outlier}"
    x = floats(label, rows, size, low=110, high=130)
    x = x * np.where(np.arange(size) == size // 3, np.float32(outlier), np.float32(1))
    gain, shift = (floats(f"{label}/{part}", size, low=120, high=128) for part in "gb")
    return Case(label, x, lambda b: b.layer_norm("x", "n", gain, shift, eps))


def _plain(kind: str, label: str, x: Array) -> Case:
    return Case(f"{kind}/{label}", x, lambda b: b.add(kind, ["x"]))


def special() -> Array:
    """Every awkward finite float32: zeros of both signs, subnormals, powers of two, limits, halves."""
    bits = [0, 1, 2, 0x7FFFFF, 0x800000, 0x800001, 0x7F7FFFFF, 0x71800000, 0x717FFFFF]
    bits += [exponent << 23 | mantissa for exponent in range(100, 140) for mantissa in (0, 1, 0x400000, 0x7FFFFF)]
    both = np.array([*bits, *(value | 0x80000000 for value in bits)], np.uint32)
    return both.view(np.float32).reshape(-1, 2)


def _functions() -> list[Case]:
    x = np.concatenate([floats("functions", 999, 2, low=100, high=135), special()])
    kinds = ("gelu_erf", "gelu_tanh", "relu", "tanh", "sigmoid")
    tame = np.clip(x, np.float32(-1e25), np.float32(1e25))
    return [
        *(_plain(kind, "special", tame) for kind in kinds),
        _plain("softmax", "wide", floats("softmax", 33, 77, low=110, high=131)),
        _plain("argmax", "ties", np.round(floats("argmax", 64, 9, low=126, high=128))),
    ]


def cases() -> list[Case]:
    """All known-answer programs."""
    tiny = np.array([[1, 0x80000001, 0x7FFFFF, 0x807FFFFF, 0x80000000, 0]], np.uint32).view(np.float32)
    huge = np.abs(floats("huge", 5, 40, low=225, high=226))
    huge[3, 7] = 2.0**100
    return [
        _linear(17, 384, 120, 130, bias=True),
        _linear(5, 1536, 127, 127, bias=True, positive=True),
        _linear(3, 4096, 127, 127, bias=False, positive=True),
        _linear(4, 40, 1, 30, bias=True),
        _linear(4, 40, 189, 189, bias=False),
        _corner(),
        Case("linear/no-grid", huge, lambda b: b.linear("x", "l", np.ones((3, 40), np.float32), None)),
        _attention(33, 4, 2, 32, causal=False, spread=9),
        _attention(33, 4, 4, 16, causal=True, spread=9),
        _attention(64, 2, 2, 32, causal=False, spread=0),
        _masked(),
        _norm(9, 384, 1e-12, 1.0),
        _norm(9, 384, 1e-12, 1000.0),
        _norm(3, 4000, 1e-5, 30.0),
        Case("l2_normalise/wide", floats("l2", 5, 384, low=90, high=128), lambda b: b.l2_normalise("x")),
        Case("mean_tokens/wide", floats("mean", 129, 50, low=90, high=128), lambda b: b.mean_tokens("x")),
        *_functions(),
        Case("subnormal/add", tiny, lambda b: b.add("add", ["x", "x"])),
        Case(
            "subnormal/mul",
            tiny * np.float32(2.0**24),
            lambda b: b.add("mul", ["x"], [b.weight("w", np.full(6, 2.0**-20, np.float32))]),
        ),
        Case("overflow/mul", special(), lambda b: b.add("mul", ["x", "x"])),
        Case("div/zero", tiny, lambda b: b.add("div", ["x", "x"])),
    ]


def compute(case: Case, backend: type) -> bytes:
    """Canonical bytes of what a backend class makes of one case."""
    builder = Builder([Port("x", TensorType("float32", case.x.shape))], {})
    model = builder.model({"y": case.build(builder)}, [])
    return encode_bundle(execute(prepare_with(backend, model), {"x": case.x}).outputs)


def known_answers(backend: str) -> list[Answer]:
    """Run every case on a backend. Raises ``UnknownBackend``."""
    return [judge(case, compute(case, load_backend(backend))) for case in cases()]


def judge(case: Case, output: bytes) -> Answer:
    got, wanted = sha256(output).hexdigest()[:32], KNOWN.get(case.name, "")
    return Answer(case.name, got == wanted, got if got == wanted else f"{got}, wanted {wanted or 'nothing'}")


#: First 16 bytes (hex) of the SHA-256 of each case's output bundle, spec version 0.
KNOWN: Mapping[str, str] = {
    "linear/17x384/120-130/10": "a00ad2966cb7ea2305b3b534193d57a0",
    "linear/5x1536/127-127/11": "08d8729c90935157458f67b68134b833",
    "linear/3x4096/127-127/01": "349350780b96e79fc0bee9645b03a33e",
    "linear/4x40/1-30/10": "2523f594eb5f8907ec5e7c5238c73d22",
    "linear/4x40/189-189/00": "e06bb81a01599b44c2ced8f1b394c0cd",
    "linear/corner": "f4279c5fcbb5f01d14bc68528b6f6ed4",
    "linear/no-grid": "f60604f36db8f96faf03c4f8f5d0aee5",
    "attention/33/4.2x32/both/9": "3738b5bde2bbd58653a88cf565ea09a6",
    "attention/33/4.4x16/causal/9": "e976b43312cbb4e28de9162784741f16",
    "attention/64/2.2x32/both/0": "1875a8fb6357996ea82564fbb5df30b6",
    "attention/masked": "007c3d8620faf105d1dd18cb7d56d8ac",
    "layer_norm/9x384/1.0": "6b93e40a33fa8e9b5ebd0303d98248cc",
    "layer_norm/9x384/1000.0": "487eeaeb1c56fa9021d958e19845b7fb",
    "layer_norm/3x4000/30.0": "000a9ed569458cca34ed23b6f9462e54",
    "l2_normalise/wide": "56119ad40e06d5143ccb64bce877db18",
    "mean_tokens/wide": "cb12658fbdbb94e0b916cd4af4ba6a2c",
    "gelu_erf/special": "1a26eaf495550d5ee07c8fc6c5f1cf09",
    "gelu_tanh/special": "59098bcec0d4d5a72e10c849685d3b73",
    "relu/special": "6f99cff54384e74db207e021f73b846a",
    "tanh/special": "257aa0afddb8605073ce81b6b1e25ec2",
    "sigmoid/special": "04c089ebcd45c829f92701a144168daa",
    "softmax/wide": "1746e252061357280f39bc0daaf27213",
    "argmax/ties": "70e7baf3f19580aec03e1e69bcbd0f00",
    "subnormal/add": "fb789e041983f96b4ae5840ae9abd9c3",
    "subnormal/mul": "92cef25d03dab954e6d24c5b0c8cac89",
    "overflow/mul": "01c5d654fc533c6c160c1b9a9666fb61",
    "div/zero": "ddbf43a0fd4fc8dedec077d1f6d996de",
}
