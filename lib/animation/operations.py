"""The variables, functions and operators of expressions, as steps on float64 numbers and arrays.

Names and symbols are those of Python and of numexpr, which Deforum uses. Where they differ, Python's meaning applies:
`%` has the sign of its divisor and `//` rounds down (-1 % 7 is 6, -1 // 7 is -1), `/` never truncates, and `0 < t < 5`
is a chained comparison. A comparison is 1 or 0: (t > 10) * 5. `&` and `|` join only comparisons and bind tighter than
them, so each comparison needs brackets: (t > 10) & (t < 20).
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = NDArray[np.float64]
Function: TypeAlias = Callable[..., Any]  # of float64 numbers and arrays

VARIABLES = ("t", "max_f", "s", "pi", "e")


def _round(value: Values, digits: float = 0.0) -> Values:
    """Round half to even at `digits` decimals, like np.round, but `digits` may be an array too."""
    scale = np.power(10.0, digits)
    rounded: Values = np.rint(value * scale) / scale
    return rounded


FUNCTIONS: dict[str, tuple[Function, int, float]] = {  # name: function, minimum and maximum number of values
    "where": (np.where, 3, 3),
    "sin": (np.sin, 1, 1),
    "cos": (np.cos, 1, 1),
    "tan": (np.tan, 1, 1),
    "asin": (np.arcsin, 1, 1),
    "acos": (np.arccos, 1, 1),
    "atan": (np.arctan, 1, 1),
    "arcsin": (np.arcsin, 1, 1),
    "arccos": (np.arccos, 1, 1),
    "arctan": (np.arctan, 1, 1),
    "arctan2": (np.arctan2, 2, 2),
    "sinh": (np.sinh, 1, 1),
    "cosh": (np.cosh, 1, 1),
    "tanh": (np.tanh, 1, 1),
    "sqrt": (np.sqrt, 1, 1),
    "exp": (np.exp, 1, 1),
    "log": (np.log, 1, 1),
    "abs": (np.abs, 1, 1),
    "sign": (np.sign, 1, 1),
    "min": (lambda *values: functools.reduce(np.minimum, values), 1, math.inf),
    "max": (lambda *values: functools.reduce(np.maximum, values), 1, math.inf),
    "floor": (np.floor, 1, 1),
    "ceil": (np.ceil, 1, 1),
    "round": (_round, 1, 2),
}


class Operation(NamedTuple):
    """A step that replaces the last `takes` values by its result."""

    function: Function
    takes: int


Step: TypeAlias = Operation | str | np.float64  # an operation, a variable's name, or a number


@dataclass
class Chain:
    """A chained comparison such as 0 < t < 5: 1.0 where all comparisons of neighbours are true, and 0.0 elsewhere."""

    comparisons: list[Function]

    def __call__(self, *values: Values | np.float64) -> Values | np.float64:
        """Compare the values, of which there is one more than comparisons."""
        pairs = zip(self.comparisons, itertools.pairwise(values), strict=True)
        true = functools.reduce(operator.and_, [compare(left, right) for compare, (left, right) in pairs])
        number: Values | np.float64 = true.astype(np.float64)
        return number


class Operator(NamedTuple):
    """An operation and its precedence."""

    binding: int  # the higher, the tighter
    operation: Operation


COMPARISON, OR, AND, SUM, PRODUCT, SIGN, POWER = range(1, 8)  # precedence, as in Python

PREFIXES = {
    "+": Operator(SIGN, Operation(operator.pos, 1)),
    "-": Operator(SIGN, Operation(operator.neg, 1)),
}
OPERATORS = {
    "|": Operator(OR, Operation(np.maximum, 2)),  # of 0 and 1
    "&": Operator(AND, Operation(np.minimum, 2)),
    "+": Operator(SUM, Operation(operator.add, 2)),
    "-": Operator(SUM, Operation(operator.sub, 2)),
    "*": Operator(PRODUCT, Operation(operator.mul, 2)),
    "/": Operator(PRODUCT, Operation(operator.truediv, 2)),
    "//": Operator(PRODUCT, Operation(operator.floordiv, 2)),
    "%": Operator(PRODUCT, Operation(operator.mod, 2)),
    "**": Operator(POWER, Operation(np.power, 2)),  # operator.pow rounds numbers and arrays differently
}
COMPARISONS: dict[str, Function] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
