"""Why the engine could not, or would not, do something. One base error; the class docstring is the message.

None of these is evidence against a provider: a run that ends in one of them has no verdict.
"""

from __future__ import annotations

from typing import Any


class ReplayError(Exception):
    """the replay engine cannot go on"""

    def __init__(self, detail: str = "", **context: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.context = context

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross from worker processes: rebuilt with detail and context."""
        return (_rebuild, (type(self), self.detail, self.context))

    def __str__(self) -> str:
        head = " ".join((type(self).__doc__ or "").split())
        tail = ", ".join(f"{key}={value}" for key, value in self.context.items())
        return head + (f": {self.detail}" if self.detail else "") + (f" ({tail})" if tail else "")


def _rebuild(kind: type[ReplayError], detail: str, context: dict[str, Any]) -> ReplayError:
    return kind(detail, **context)


class LayoutError(ReplayError):
    """these bytes or arrays are not a canonical bundle, tensor or path"""


class ProgramError(ReplayError):
    """the program is not well-formed"""


class ModelRefused(ReplayError):
    """the model cannot be loaded"""


class ManifestRefused(ModelRefused):
    """the model's manifest cannot be used"""


class FileMismatch(ModelRefused):
    """a model file is not the one its digest names"""


class MalformedFile(ModelRefused):
    """a model file is damaged or lies about itself"""


class LimitExceeded(ModelRefused):
    """the model is larger than this engine accepts"""


class UnsupportedModel(ModelRefused):
    """the engine does not know this kind of model"""


class UnsupportedOperator(UnsupportedModel):
    """an operator of the model is not supported"""

    def __init__(self, detail: str = "", *, operator: str = "", node: str = "", **context: Any) -> None:
        super().__init__(detail, operator=operator, node=node, **context)
        self.operator = operator
        self.node = node


class InputRejected(ReplayError):
    """the input does not fit the model"""


class BackendRefused(ReplayError):
    """the backend does not compute the canonical bits on this machine"""


class UnknownBackend(ReplayError):
    """there is no backend of this name"""


class NonFinite(Exception):
    """an operator's result is not finite: a defined outcome of a run, told by ``element``, the first flat index"""

    def __init__(self, element: int) -> None:
        super().__init__(element)
        self.element = element
