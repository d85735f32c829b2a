"""What is computed at import: exact results of constants, by the NumPy kernels, and shapes that hold a symbol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from replay.errors import NonFinite, ProgramError
from replay.kernels import numpy_arithmetic, numpy_shapes
from replay.layout import Array
from replay.operators import Attribute, Operator

#: Exact on floats too; of other arithmetic only that of integers and bools is done here.
_EXACT = frozenset(("cast", "where", "equal", "less", "less_equal", "neg", "abs", "max", "min"))
#: What entries of a shape that are symbols may go through.
_SYMBOLIC = frozenset(("slice", "concat", "gather", "expand"))
_TABLE = {**numpy_arithmetic.TABLE, **numpy_shapes.TABLE}


def folded(kind: str, arrays: Sequence[Array], **attributes: Attribute) -> Array | None:
    """The result of an operator on constants, or None where it is left to the program. Raises ``ProgramError``."""
    symbolic = any(array.dtype == object for array in arrays)
    floats = any(array.dtype == np.float32 for array in arrays)
    moves = kind in numpy_shapes.TABLE
    if symbolic and kind not in _SYMBOLIC:
        return None if moves else _symbols(kind, arrays)
    if any(array.size == 0 for array in arrays) or not (moves or not floats or kind in _EXACT):
        return None
    try:
        with np.errstate(all="ignore"):
            op = Operator(kind, (), "", (), attributes)
            return _TABLE[kind](op, *(array.reshape(array.shape or (1,)) for array in arrays))
    except NonFinite as found:
        raise ProgramError(f"a constant has no value at element {found.element}") from found


def _symbols(kind: str, arrays: Sequence[Array]) -> Array | None:
    """Arithmetic on shapes with a symbol in them: nothing but what leaves the symbol as it is."""
    neutral = {"mul": 1, "div": 1, "add": 0, "sub": 0}
    if kind in neutral and len(arrays) == 2:
        left, right = np.broadcast_arrays(*arrays)
        if (right == neutral[kind]).all():
            made = left
        elif kind in ("mul", "add") and (left == neutral[kind]).all():
            made = right
        else:
            return None
        return np.asarray(made.astype(object))
    if kind == "equal" and len(arrays) == 2:
        left, right = np.broadcast_arrays(*arrays)
        numbers = right if left.dtype == object else left
        if right.dtype != left.dtype and (numbers <= 0).all():  # a dimension is at least 1
            return np.asarray(left == right, np.bool_)
    if kind == "where" and arrays[0].dtype == np.bool_:
        return np.where(arrays[0], *(array.astype(object) for array in arrays[1:]))
    return None
