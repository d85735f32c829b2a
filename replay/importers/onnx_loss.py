"""ONNX's two losses: negative log-likelihood of chosen classes, with weights and an ignored class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from replay.importers.onnx_index import pick
from replay.importers.onnx_value import Call, Rule, Value


def _loss(call: Call, logs: Value) -> Value:
    """Logs [N, C, …], target [N, …] → [N, …] or one number."""
    low, target, weights = call.low, call.value(1), call.optional(2)
    classes = logs.size(1)
    call.need(logs.rank >= 2 and target.shape == (logs.shape[0], *logs.shape[2:]), "the target does not fit")
    how = call.text("reduction", "mean", "none", "sum")
    ignored: Value | None = None
    if call.has("ignore_index"):
        ignored = low("equal", target, call.whole("ignore_index", 0))
        target = low.where(ignored, low.number(0, target.dtype), target)
    index = low.reshape(target, (target.shape[0], 1, *target.shape[1:]))
    loss = low("neg", low.reshape(pick(low, logs, index, 1), target.shape))
    share: Value | None = None
    if weights is not None:
        call.need(weights.shape == (classes,), "the weights do not fit")
        share = low.gather(weights, target, 0)
    if ignored is not None:
        share = low.where(ignored, low.number(0), low.number(1) if share is None else share)
    if share is not None:
        loss = low("mul", loss, share)
    axes = range(target.rank)
    if how == "none":
        return loss
    total = low.reduce("reduce_sum", loss, axes, keep=False)
    if how == "sum":
        return total
    if share is None:
        return low.reduce("reduce_mean", loss, axes, keep=False)
    return low("div", total, low.reduce("reduce_sum", low.expand(share, target.shape), axes, keep=False))


def _negative_log_likelihood(call: Call) -> Value:
    return _loss(call, call.value(0))


def _softmax_cross_entropy(call: Call) -> Sequence[Value]:
    logs = call.low.along("log_softmax", call.value(0), 1)
    return _loss(call, logs), logs


RULES: Mapping[str, Rule] = {
    "NegativeLogLikelihoodLoss": Rule(_negative_log_likelihood, 12),
    "SoftmaxCrossEntropyLoss": Rule(_softmax_cross_entropy, 12),
}
