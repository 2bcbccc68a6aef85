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
from collections.abc import Callable, Mapping
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


class Signature(NamedTuple):
    """A function, and how expressions call it."""

    function: Function
    fewest: int  # values in its brackets
    most: float
    reads: tuple[str, ...] = ()  # variables that it is passed after these values
    remembers: bool = False  # whether the value of a frame depends on earlier frames


FUNCTIONS = {
    "where": Signature(np.where, 3, 3),
    "sin": Signature(np.sin, 1, 1),
    "cos": Signature(np.cos, 1, 1),
    "tan": Signature(np.tan, 1, 1),
    "asin": Signature(np.arcsin, 1, 1),
    "acos": Signature(np.arccos, 1, 1),
    "atan": Signature(np.arctan, 1, 1),
    "arcsin": Signature(np.arcsin, 1, 1),
    "arccos": Signature(np.arccos, 1, 1),
    "arctan": Signature(np.arctan, 1, 1),
    "arctan2": Signature(np.arctan2, 2, 2),
    "sinh": Signature(np.sinh, 1, 1),
    "cosh": Signature(np.cosh, 1, 1),
    "tanh": Signature(np.tanh, 1, 1),
    "sqrt": Signature(np.sqrt, 1, 1),
    "exp": Signature(np.exp, 1, 1),
    "log": Signature(np.log, 1, 1),
    "abs": Signature(np.abs, 1, 1),
    "sign": Signature(np.sign, 1, 1),
    "min": Signature(lambda *values: functools.reduce(np.minimum, values), 1, math.inf),
    "max": Signature(lambda *values: functools.reduce(np.maximum, values), 1, math.inf),
    "floor": Signature(np.floor, 1, 1),
    "ceil": Signature(np.ceil, 1, 1),
    "round": Signature(_round, 1, 2),
}


@dataclass(frozen=True)
class Language:
    """The names that expressions may use."""

    variables: tuple[str, ...]
    functions: Mapping[str, Signature]


DEFORUM = Language(VARIABLES, FUNCTIONS)


class Operation(NamedTuple):
    """A step that replaces the last `takes` values by its result."""

    function: Function
    takes: int
    remembers: bool = False


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
