"""Attention in torch: exact logits, integer weights, and the keys and values that decoding keeps (docs/numerics.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from replay.kernels import spec
from replay.kernels.state import State
from replay.kernels.torch_core import F32, F64, Top, TorchCore, double, finish
from replay.operators import Operator

#: Elements of attention scores worked on at once: they stay in cache. Long texts are worked on in no fewer rows.
_BLOCK, _ROWS = 1 << 17, 32
#: Rows of causal attention worked on at once: each piece leaves out the keys that none of its rows sees.
_CAUSAL_ROWS = 64
#: Tokens for which a decoder takes memory at first.
_ROOM = 64
_FIELD_MIN = spec.EXPONENT_MIN << 23
#: The weight of a key left out is 2^(22 − 60). It rounds to 0 as long as its value's exponent is at most this much above any
#: other: 2^−1 rounds to 0.
_FIELD_SPREAD = (int(spec.CLAMP) - spec.WEIGHT_BITS - 1) << 23


@dataclass(frozen=True)
class Keys:
    """Keys and values on their grids. k: multiples of their units, v: integers, both fp64 [groups, keys, size]; field:
    exponents of the values' rows (e << 23), bad: whether key or value has no grid (None: all have one), both
    [groups, keys, 1]; running: the largest exponent of a value up to each, None where nobody asks; largest: the biased
    exponent that no key's row exceeds."""

    k: Tensor
    v: Tensor
    field: Tensor
    bad: Tensor | None
    largest: int
    running: Tensor | None = None

    def within(self, groups: slice, span: slice) -> Keys:
        bad = None if self.bad is None else self.bad[groups, span]
        running = None if self.running is None else self.running[groups, span]
        return Keys(self.k[groups, span], self.v[groups, span], self.field[groups, span], bad, self.largest, running)


@dataclass(frozen=True)
class Sight:
    """Which keys some rows leave out: ``shut`` bool [rows, keys], None if they see all. ``shade``: the same of the last
    keys, where the others are open to all rows, in fp32: −Inf where shut, Inf where open."""

    shut: Tensor | None = None
    shade: Tensor | None = None

    @staticmethod
    def of(shut: Tensor, last: int) -> Sight:
        return Sight(shut, torch.where(shut[:, -last:], -torch.inf, torch.inf))

    def hide(self, t: Tensor) -> None:
        """−Inf, the neutral element of max, for each key left out: it has no logit, whatever stood there (never a NaN)."""
        if self.shade is not None:
            end = t[..., -self.shade.shape[1] :]
            torch.minimum(end, self.shade, out=end)

    def largest(self, keys: Keys) -> Top:
        """E: the largest exponent of a value that each row sees, [groups, rows or 1, 1]."""
        if self.shut is None:
            return Top(keys.field.amax(1, keepdim=True))
        if keys.running is not None:
            return Top(keys.running[:, -self.shut.shape[0] :])
        return Top(torch.where(self.shut, _FIELD_MIN, keys.field.transpose(1, 2)).amax(-1, keepdim=True))


class Kept:
    """One operator's keys and values so far. Memory doubles when it is full, so that a token costs its own copy only."""

    def __init__(self) -> None:
        self._held: list[Tensor] = []
        self._tokens = 0
        self._spoilt = False
        self._largest = 0

    def joined(self, new: Keys) -> Keys:
        """All tokens so far, those of ``new`` last: views, which hold until the next call."""
        bad = torch.zeros(new.field.shape, dtype=torch.bool) if new.bad is None else new.bad
        self._spoilt = self._spoilt or new.bad is not None
        self._largest = max(self._largest, new.largest)
        parts = (new.k, new.v, new.field, bad)
        before, self._tokens = self._tokens, self._tokens + new.k.shape[1]
        if not self._held or self._held[0].shape[1] < self._tokens:
            room = max(_ROOM, 2 * before, self._tokens)
            grown = [part.new_empty(part.shape[0], room, part.shape[2]) for part in parts]
            for large, held in zip(grown, self._held, strict=False):
                large[:, :before] = held[:, :before]
            self._held = grown
        for held, part in zip(self._held, parts, strict=True):
            held[:, before : self._tokens] = part
        k, v, field, lost = (held[:, : self._tokens] for held in self._held)
        return Keys(k, v, field, lost if self._spoilt else None, self._largest)


class AttentionKernels(TorchCore):
    """Grouped-query attention. The heads / groups query heads that share keys and values stand together, so that one
    product per group serves all of them; scores are [groups, share, rows, keys]."""

    def _attention(self, op: Operator, x: Tensor, mask: Tensor | None = None, *, state: State | None = None) -> Tensor:
        heads, groups, size = op.integer("heads"), op.integer("kv_heads"), op.integer("head_dim")
        tokens, share = x.shape[0], heads // groups
        # packed: [heads + 2·groups, tokens, size], contiguous per head
        packed = self._buffers.take("att.x", (heads + 2 * groups, tokens, size), F32)
        packed.copy_(x.view(tokens, heads + 2 * groups, size).transpose(0, 1))
        top = self._top(packed)
        if top.bad is not None:
            packed.masked_fill_(top.bad, 0.0)  # else a row that leaves such a token out would meet it as 0·Inf
        q = self._grid(packed[:heads], Top(top.field[:heads]), op.integer("q_bits"), "att.q")
        q = q.view(groups, share, tokens, size)
        keys = self._keys(op, packed[heads:], Top(top.field[heads:], None if top.bad is None else top.bad[heads:]))
        if state is not None:
            keys = state.kept.setdefault(op.output, Kept()).joined(keys)
        total, scale = keys.k.shape[1], double(op.text("scale"))
        y = torch.empty(tokens, groups, share, size, dtype=F32)
        bad = torch.zeros(tokens, heads, 1, dtype=torch.bool)
        if top.bad is not None:
            bad.copy_(top.bad[:heads].transpose(0, 1))
        lost = bad.view(tokens, groups, share, 1)
        if op.integer("causal") and not op.integer("window") and mask is None and tokens > 1:
            keys = replace(keys, running=keys.field.cummax(1).values)
        finite = keys.bad is None and _finite(size, scale, int(top.field[:heads].max()) >> 23, keys.largest)
        for rows in _pieces(tokens, _rows(op, total)):
            span, sight = _sight(op, total - tokens, rows, total, mask)
            if mask is not None and sight.shut is not None:
                lost[rows] |= sight.shut.all(-1)[:, None, None, None]
            for group, head in _parts(groups, share, (rows.stop - rows.start) * (span.stop - span.start)):
                near = keys.within(group, span)
                t = self._logits(q[group, head, rows], near.k, scale)
                if not finite and (near.bad is not None or not bool(torch.isfinite(t.sum()))):
                    lost[rows, group, head] |= _lost_rows(t, near.bad, sight.shut).permute(2, 0, 1, 3)
                y[rows, group, head] = self._mix(t, near, sight).permute(2, 0, 1, 3)
        return finish(y.view(tokens, heads, size), bad if bool(bad.any()) else None).view(tokens, heads * size)

    def _keys(self, op: Operator, packed: Tensor, top: Top) -> Keys:
        """``packed``: keys, then values [2·groups, tokens, size]."""
        groups = packed.shape[0] // 2
        k = self._grid(packed[:groups], Top(top.field[:groups]), op.integer("k_bits"), "att.k")
        values = Top(top.field[groups:])
        v = self._grid(packed[groups:], values, spec.VALUE_BITS, "att.v").mul_(values.per_unit(spec.VALUE_BITS))
        bad = None if top.bad is None else top.bad[:groups] | top.bad[groups:]
        return Keys(k, v, values.field, bad, int(top.field[:groups].max()) >> 23)

    def _logits(self, q: Tensor, k: Tensor, scale: float) -> Tensor:
        """fp32 logits in base 2, in a buffer. q: [groups, share, rows, size], k: [groups, keys, size], gridded fp64."""
        groups, share, rows, size = q.shape
        shape = (groups, share * rows, k.shape[1])
        s = torch.bmm(
            q.reshape(groups, share * rows, size), k.transpose(1, 2), out=self._buffers.take("att.s", shape, F64)
        )
        t = self._buffers.take("att.t", shape, F32).copy_(s.mul_(scale))
        return t.view(groups, share, rows, k.shape[1])

    def _mix(self, t: Tensor, keys: Keys, sight: Sight) -> Tensor:
        """Values mixed by the weights that the logits t (consumed) give: fp64 [groups, share, rows, size], in a buffer."""
        sight.hide(t)
        u = self._exp2(t.sub_(t.amax(-1, keepdim=True)).clamp_(min=-spec.CLAMP), 2.0**spec.WEIGHT_BITS)
        spread = int(keys.field.max()) - int(keys.field.min())
        if sight.shut is not None and spread > _FIELD_SPREAD:
            u.masked_fill_(sight.shut, 0.0)
        largest = sight.largest(keys)
        w = self._buffers.take("att.w", t.shape, F64)
        if not spread:  # the scaling below would be by 2^0
            total = w.copy_(u.round_()).sum(-1, keepdim=True)
        else:
            total = w.copy_(torch.round(u, out=t)).sum(-1, keepdim=True)
            scale = Top(keys.field).power().transpose(1, 2)[:, None]
            w.copy_(u.mul_(scale).mul_(largest.inverse()[:, None]).round_())
        groups, share, rows, size = *t.shape[:3], keys.v.shape[2]
        out = self._buffers.take("att.o", (groups, share * rows, size), F64)
        mixed = torch.bmm(w.view(groups, share * rows, -1), keys.v, out=out).view(groups, share, rows, size)
        return mixed.mul_(largest.unit(spec.VALUE_BITS)[:, None]).div_(total)


def _rows(op: Operator, total: int) -> int:
    """Rows to work on at once, where each meets ``total`` keys."""
    rows = max(_ROWS, _BLOCK // total)
    return min(rows, _CAUSAL_ROWS) if op.integer("causal") else rows


def _finite(size: int, scale: float, q: int, k: int) -> bool:
    """Whether every logit is known to be finite: |q·k| < size·2^(q + k − 252) for the rows' biased exponents q and k."""
    return size * abs(scale) * 2.0 ** (q + k - 252) < 2.0**127


def _pieces(count: int, step: int) -> Iterator[slice]:
    for first in range(0, count, step):
        yield slice(first, min(count, first + step))


def _parts(groups: int, share: int, scores: int) -> Iterator[tuple[slice, slice]]:
    """(groups, heads within a group) to work on at once, where one head has so many scores."""
    together = max(1, _BLOCK // scores)
    for group in _pieces(groups, max(1, together // share)):
        for head in _pieces(share, min(share, together)):
            yield group, head


def _sight(op: Operator, first: int, rows: slice, total: int, mask: Tensor | None) -> tuple[slice, Sight]:
    """The span of keys that the rows, which are tokens first + rows, can see at all; what each leaves out of it."""
    count, window = rows.stop - rows.start, op.integer("window")
    if op.integer("causal") == 0:
        return slice(0, total), Sight() if mask is None else Sight.of((~mask).expand(count, total), total)
    start, stop = first + rows.start, first + rows.stop
    low = max(0, start - window + 1) if window else 0
    shut = None
    if count > 1:
        shut = torch.ones(count, stop - low, dtype=torch.bool).triu_(start - low + 1)
        if window:
            shut |= torch.ones(count, stop - low, dtype=torch.bool).tril_(start - low - window)
    if mask is not None:
        absent = ~mask[low:stop]
        shut = absent.expand(count, -1) if shut is None else shut | absent
    simple = window == 0 and mask is None
    return slice(low, stop), Sight() if shut is None else Sight.of(shut, count if simple else stop - low)


def _lost_rows(t: Tensor, bad: Tensor | None, shut: Tensor | None) -> Tensor:
    """Rows [groups, share, rows, 1] whose result is not finite: a logit is not, or a key (``bad`` [groups, keys, 1])."""
    wrong = ~torch.isfinite(t)
    if bad is not None:
        wrong |= bad.transpose(1, 2)[:, None]
    if shut is not None:
        wrong &= ~shut
    return wrong.any(-1, keepdim=True)
