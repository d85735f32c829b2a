"""Rotary tables: the nearest floats to the true values, the same on every machine, close to what transformers computes."""

from __future__ import annotations

import warnings
from fractions import Fraction
from hashlib import sha256

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.errors import UnsupportedModel
from replay.importers import rope
from replay.importers.rope import LARGEST, SMALLEST, Rotation, tables

LLAMA_31 = Rotation(Fraction(500_000), Fraction(8), (Fraction(1), Fraction(4), 8_192))


def real(number: Fraction) -> mpmath.mpf:
    return mpmath.mpf(number.numerator) / number.denominator


def frequency(rotation: Rotation, head_dim: int, i: int) -> mpmath.mpf:
    omega = real(rotation.theta) ** (-mpmath.mpf(2 * i) / head_dim)
    if rotation.bands is None:
        return omega / real(rotation.factor)
    low, high, tokens = rotation.bands
    share = (tokens * omega / (2 * mpmath.pi) - real(low)) / (real(high) - real(low))
    share = min(max(share, mpmath.mpf(0)), mpmath.mpf(1))
    return omega * ((1 - share) / real(rotation.factor) + share)


def is_nearest(got: np.float32, true: mpmath.mpf) -> bool:
    away = abs(mpmath.mpf(float(got)) - true)
    sides = (np.nextafter(got, np.float32(side)) for side in (-2, 2))
    return all(abs(mpmath.mpf(float(side)) - true) > away for side in sides)


def check(rotation: Rotation, head_dim: int, positions: int, places) -> None:
    cos, sin = tables(rotation, head_dim, positions)
    assert cos.shape == sin.shape == (positions, head_dim // 2)
    with mpmath.workprec(400):
        for p, i in places:
            angle = p * frequency(rotation, head_dim, i)
            assert is_nearest(cos[p, i], mpmath.cos(angle)), (p, i)
            assert is_nearest(sin[p, i], mpmath.sin(angle)), (p, i)


@pytest.mark.parametrize(
    ("rotation", "head_dim", "positions"),
    [
        (Rotation(Fraction(10_000)), 64, 2_048),
        (LLAMA_31, 64, 8_192),
        (Rotation(Fraction(1_000_000), Fraction(2.5)), 20, 500),
        (Rotation(Fraction(1)), 8, 3_000),
        (Rotation(Fraction(2) ** 50, Fraction(2) ** 50), 512, 3),
        (Rotation(Fraction(10_000)), 2, 1),
    ],
)
def test_samples_are_the_nearest_floats(rotation, head_dim, positions):
    random = np.random.default_rng(positions)
    places = [(int(random.integers(positions)), int(random.integers(head_dim // 2))) for _ in range(150)]
    check(rotation, head_dim, positions, [*places, (positions - 1, head_dim // 2 - 1), (0, 0)])


edges = st.floats(SMALLEST, LARGEST).map(Fraction)


@given(
    st.floats(1.0, LARGEST).map(Fraction),
    st.floats(1.0, LARGEST).map(Fraction),
    st.none() | st.tuples(edges, edges, st.integers(1, rope.TOKENS_MAX)).filter(lambda bands: bands[0] < bands[1]),
    st.integers(1, 5).map(lambda half: 2 * half),
    st.integers(1, 12),
)
@settings(max_examples=80)
def test_every_rotation_gives_the_nearest_floats(theta, factor, bands, head_dim, positions):
    places = [(p, i) for p in range(positions) for i in range(head_dim // 2)]
    check(Rotation(theta, factor, bands), head_dim, positions, places)


def test_edges_as_close_as_doubles_allow():
    """The share between two edges magnifies the error of the frequency most where they are neighbours."""
    low = 163.0
    bands = (Fraction(low), Fraction(float(np.nextafter(low, 200.0))), 1_024)
    check(Rotation(Fraction(1.0), Fraction(8), bands), 4, 50, [(p, i) for p in range(50) for i in range(2)])


def test_the_tables_are_known():
    """On every machine these settings give these bits."""
    cos, sin = tables(Rotation(Fraction(10_000)), 64, 512)
    assert sha256(cos.tobytes() + sin.tobytes()).hexdigest() == PLAIN
    cos, sin = tables(LLAMA_31, 64, 512)
    assert sha256(cos.tobytes() + sin.tobytes()).hexdigest() == BANDS


def test_the_first_position_is_not_turned():
    cos, sin = tables(LLAMA_31, 64, 2)
    assert cos[0].tobytes() == np.ones(32, np.float32).tobytes()
    assert sin[0].tobytes() == np.zeros(32, np.float32).tobytes()


def test_a_caller_may_write_into_its_tables():
    rotation = Rotation(Fraction(77))
    first, _ = tables(rotation, 4, 3)
    kept = first.copy()
    first[:] = 0
    assert (tables(rotation, 4, 3)[0] == kept).all()


def test_values_that_cannot_be_told_take_more_bits():
    rotation = Rotation(Fraction(10_000))
    wide = rope._tables(rotation, 8, 40)
    again = rope._tables(rotation, 8, 40, (42, 192))
    assert all((a == b).all() for a, b in zip(wide, again, strict=True))
    with pytest.raises(UnsupportedModel, match="rounded"):
        rope._tables(rotation, 8, 40, (42,))


def test_a_number_near_the_middle_of_two_floats_is_not_rounded():
    middle = (1 << 60) + (1 << 36)  # 1 + 2⁻²⁴ in units of 2⁻⁶⁰
    assert rope._nearest(middle, 8, 60) is None
    assert rope._nearest(middle + 7, 8, 60) is None
    assert rope._nearest(middle - 8, 8, 60) is None
    assert rope._nearest(middle + 9, 8, 60) == 0x3F800001
    assert rope._nearest(-middle + 9, 8, 60) == 0xBF800000
    assert rope._nearest((1 << 60) - 1, 8, 60) == 0x3F800000
    assert rope._nearest(3, 8, 60) is None


@pytest.mark.parametrize("kind", ["default", "linear", "llama3"])
def test_frequencies_are_those_of_transformers(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import LlamaConfig
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
    more = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8_192}
    said = {"rope_type": kind, "rope_theta": 500_000.0}
    said |= {} if kind == "default" else {"factor": 8.0}
    said |= more if kind == "llama3" else {}
    config = LlamaConfig(hidden_size=128, num_attention_heads=2, max_position_embeddings=9_000, rope_parameters=said)
    theirs = LlamaRotaryEmbedding(config).inv_freq.double().numpy()
    ours = {"default": Rotation(LLAMA_31.theta), "linear": Rotation(LLAMA_31.theta, Fraction(8)), "llama3": LLAMA_31}
    mine = np.array([value / 2.0**100 for value in rope.frequencies(ours[kind], 64, 100)])
    assert np.abs(mine / theirs - 1).max() < 1e-6


PLAIN = "0417f7d8d884eec95b205b66fcc049d2f3060e0b6335810f2f9a037f25c54526"
BANDS = "e7748b664a7577132f234d44ff4081986d07d69f51261e793c7fab229db56ac3"
