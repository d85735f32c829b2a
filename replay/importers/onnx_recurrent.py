"""ONNX's recurrent layers, written out step by step: the number of steps must be fixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from replay.importers.onnx_lower import Lowering
from replay.importers.onnx_math import elu, hard_sigmoid, softsign
from replay.importers.onnx_value import Call, Rule, Value

MAX_STEPS = 2048

_ACTIVATIONS: Mapping[str, Callable[[Lowering, Value], Value]] = {
    "sigmoid": lambda low, x: low("sigmoid", x),
    "tanh": lambda low, x: low("tanh", x),
    "relu": lambda low, x: low("relu", x),
    "softplus": lambda low, x: low("softplus", x),
    "softsign": softsign,
    "hardsigmoid": lambda low, x: hard_sigmoid(low, x, 0.2, 0.5),
    "elu": lambda low, x: elu(low, x, 1.0),
}


@dataclass(frozen=True)
class Cell:
    """One direction of a layer: projected inputs [T, N, gates·H], how a step goes, and what holds for every step."""

    low: Lowering
    recurrent: Value
    bias: Value | None
    projected: Value
    activations: Sequence[Callable[[Lowering, Value], Value]]
    peephole: Value | None
    hidden: int
    clip: float
    flags: Mapping[str, bool]

    def act(self, place: int, value: Value) -> Value:
        if self.clip > 0:
            value = self.low("max", self.low("min", value, self.clip), -self.clip)
        return self.activations[place](self.low, value)

    def gate(self, gates: Value, place: int) -> Value:
        return self.low.slice(gates, -1, place * self.hidden, self.hidden)

    def part(self, value: Value | None, place: int) -> Value | None:
        """Rows of one gate."""
        return None if value is None else self.low.slice(value, 0, place * self.hidden, self.hidden)

    def look(self, value: Value, cell: Value, place: int) -> Value:
        """The peephole of one gate."""
        weights = self.part(self.peephole, place)
        return value if weights is None else self.low("add", value, self.low("mul", weights, cell))


State = tuple[Value, ...]
Step = Callable[[Cell, Value, State], State]


def _rnn(cell: Cell, x: Value, state: State) -> State:
    low = cell.low
    return (cell.act(0, low("add", x, low.rows_dot(state[0], cell.recurrent, cell.bias))),)


def _gru(cell: Cell, x: Value, state: State) -> State:
    """Gates z, r, h."""
    low, (h,), wide = cell.low, state, 2 * cell.hidden
    two = low.rows_dot(
        h, low.slice(cell.recurrent, 0, 0, wide), None if cell.bias is None else low.slice(cell.bias, 0, 0, wide)
    )
    two = low("add", low.slice(x, -1, 0, wide), two)
    z, r = cell.act(0, cell.gate(two, 0)), cell.act(0, cell.gate(two, 1))
    rows, bias = low.slice(cell.recurrent, 0, wide, cell.hidden), cell.part(cell.bias, 2)
    if cell.flags["linear_before_reset"]:
        inner = low("mul", r, low.rows_dot(h, rows, bias))
    else:
        inner = low.rows_dot(low("mul", r, h), rows, bias)
    new = cell.act(1, low("add", cell.gate(x, 2), inner))
    return (low("add", low("mul", low("sub", low.number(1), z), new), low("mul", z, h)),)


def _lstm(cell: Cell, x: Value, state: State) -> State:
    """Gates i, o, f, c; peepholes i, o, f."""
    low, (h, c) = cell.low, state
    gates = low("add", x, low.rows_dot(h, cell.recurrent, cell.bias))
    i = cell.act(0, cell.look(cell.gate(gates, 0), c, 0))
    if cell.flags["input_forget"]:
        f = low("sub", low.number(1), i)
    else:
        f = cell.act(0, cell.look(cell.gate(gates, 2), c, 2))
    new = low("add", low("mul", f, c), low("mul", i, cell.act(1, cell.gate(gates, 3))))
    o = cell.act(0, cell.look(cell.gate(gates, 1), new, 1))
    return low("mul", o, cell.activations[2](low, new)), new


def _layer(
    gates: int, step: Step, defaults: Sequence[str], states: int, flag: str = ""
) -> Callable[[Call], Sequence[Value]]:
    def rule(call: Call) -> Sequence[Value]:
        low, value, weight, recurrent = call.low, call.value(0), call.value(1), call.value(2)
        bias, lengths = call.optional(3), call.optional(4)
        initial = [call.optional(5), call.optional(6)][:states]
        peephole = call.optional(7) if states == 2 else None
        turned = call.flag("layout")
        directions = {"forward": 1, "reverse": 1, "bidirectional": 2}
        way = call.text("direction", *directions)
        count, hidden = directions[way], recurrent.size(-1)
        call.need(value.rank == weight.rank == recurrent.rank == 3, "wants X, W and R of rank 3")
        call.need(value.dtype == "float32" and call.whole("hidden_size", hidden) == hidden, "hidden_size")
        call.need(weight.shape == (count, gates * hidden, value.size(2)), "W does not fit")
        call.need(recurrent.shape == (count, gates * hidden, hidden), "R does not fit")
        call.need(bias is None or bias.shape == (count, 2 * gates * hidden), "B does not fit")
        call.need(peephole is None or peephole.shape == (count, 3 * hidden), "P does not fit")
        names = call.texts("activations") if call.has("activations") else tuple(defaults) * count
        call.need(len(names) == len(defaults) * count, "wants as many activations as there are")
        chosen = [_ACTIVATIONS.get(name.lower()) for name in names]
        call.need(None not in chosen, f"activations {', '.join(names)[:64]}")
        acts = [one for one in chosen if one is not None]
        clip = call.decimal("clip", 0.0)
        call.need(clip >= 0, "clip must be positive")
        flags = {flag: call.flag(flag)} if flag else {}
        value = low.transpose(value, (1, 0, 2)) if turned else value
        steps, batch = value.size(0), value.shape[1]
        call.need(steps <= MAX_STEPS, f"more than {MAX_STEPS} steps")
        call.need(lengths is None or lengths.shape == (batch,), "sequence_lens do not fit")
        outputs, lasts = [], []
        for place in range(count):
            w, r = (low.reshape(low.slice(m, 0, place, 1), m.shape[1:]) for m in (weight, recurrent))
            b = None if bias is None else low.reshape(low.slice(bias, 0, place, 1), bias.shape[1:])
            size = gates * hidden
            projected = low.rows_dot(value, w, None if b is None else low.slice(b, 0, 0, size))
            cell = Cell(
                low,
                r,
                None if b is None else low.slice(b, 0, size, size),
                projected,
                acts[place * len(defaults) : (place + 1) * len(defaults)],
                None if peephole is None else low.reshape(low.slice(peephole, 0, place, 1), (3 * hidden,)),
                hidden,
                clip,
                flags,
            )
            start = tuple(_start(low, one, place, batch, hidden, turned) for one in initial)
            backwards = way == "reverse" or place == 1
            made, last = _run(cell, step, start, lengths, steps, backwards)
            outputs.append(made)
            lasts.append(last)
        axis = 2 if turned else 1
        joined = low.concat([low.reshape(one, (*one.shape[:axis], 1, *one.shape[axis:])) for one in outputs], axis)
        if turned:  # [T, N, directions, H] → [N, T, directions, H]
            joined = low.transpose(joined, (1, 0, 2, 3))
        ends = []
        for place in range(states):
            parts = [low.reshape(last[place], (1, batch, hidden)) for last in lasts]
            end = low.concat(parts, 0)
            ends.append(low.transpose(end, (1, 0, 2)) if turned else end)
        return joined, *ends

    return rule


def _start(low: Lowering, given: Value | None, place: int, batch: int | str, hidden: int, turned: bool) -> Value:
    """The state before the first step, [N, H]: zeros where nothing is given."""
    if given is None:
        return low.expand(low.number(0, rank=2), (batch, hidden))
    given = low.transpose(given, (1, 0, 2)) if turned else given
    return low.reshape(low.slice(given, 0, place, 1), (batch, hidden))


def _run(
    cell: Cell, step: Step, state: State, lengths: Value | None, steps: int, backwards: bool
) -> tuple[Value, State]:
    """(all hidden states [T, N, H] in order of time, the last state). Beyond its length a sequence stands still and
    gives zeros; read backwards it starts at its own end, because the steps behind leave the state as it was."""
    low, made = cell.low, []
    for at in reversed(range(steps)) if backwards else range(steps):
        x = low.reshape(low.slice(cell.projected, 0, at, 1), cell.projected.shape[1:])
        new = step(cell, x, state)
        shown = new[0]
        if lengths is not None:
            there = low("less", low.number(at, lengths.dtype), lengths)
            there = low.reshape(there, (*there.shape, 1))
            shown = low.where(there, new[0], low.number(0))
            new = tuple(low.where(there, after, before) for after, before in zip(new, state, strict=True))
        state = new
        made.append(low.reshape(shown, (1, *shown.shape)))
    return low.concat(made[::-1] if backwards else made, 0), state


RULES: Mapping[str, Rule] = {
    "GRU": Rule(_layer(3, _gru, ("Sigmoid", "Tanh"), 1, "linear_before_reset"), 7),
    "LSTM": Rule(_layer(4, _lstm, ("Sigmoid", "Tanh", "Tanh"), 2, "input_forget"), 7),
    "RNN": Rule(_layer(1, _rnn, ("Tanh",), 1), 7),
}
