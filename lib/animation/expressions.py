"""Motion expressions: "10*sin(2*pi*t/30)" -> one float64 per frame, by an allow-list.

Nothing that a user types is ever run as Python. Only known tokens reach Python's parser, only known nodes of
its tree are compiled, and these work on float64 arrays, where no exponent makes anything grow. The variables
are Deforum's: `t` is the frame, `max_f` the last frame (so that t/max_f runs from 0 to 1), `s` the seed.
"""

import ast
import functools
import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lib.errors import UserError, shown

Values: TypeAlias = NDArray[np.float64]
Compiled: TypeAlias = Callable[[Mapping[str, Any]], Any]

MAX_CHARS = 2000  # the longest sums of waves that people share have a few hundred
MAX_DEPTH = 100  # of brackets, and of the tree; Python's own recursion limit is 1000
MAX_VALUE = 1e6  # pixels, degrees or times; far beyond what shows, and small enough for finite matrices

VARIABLES = ("t", "max_f", "s", "pi", "e")


def _round(value: Values, digits: float = 0.0) -> Values:
    """Round half to even at `digits` decimals, by np.round's formula, but `digits` may be an array too."""
    scale = np.power(10.0, digits)
    rounded: Values = np.rint(value * scale) / scale
    return rounded


FUNCTIONS: dict[str, tuple[Callable[..., Any], int, float]] = {  # name: what it does, fewest and most values
    "where": (np.where, 3, 3),
    "sin": (np.sin, 1, 1),
    "cos": (np.cos, 1, 1),
    "tan": (np.tan, 1, 1),
    "asin": (np.arcsin, 1, 1),
    "acos": (np.arccos, 1, 1),
    "atan": (np.arctan, 1, 1),
    "sqrt": (np.sqrt, 1, 1),
    "exp": (np.exp, 1, 1),
    "log": (np.log, 1, 1),
    "abs": (np.abs, 1, 1),
    "min": (lambda *values: functools.reduce(np.minimum, values), 1, math.inf),
    "max": (lambda *values: functools.reduce(np.maximum, values), 1, math.inf),
    "floor": (np.floor, 1, 1),
    "ceil": (np.ceil, 1, 1),
    "round": (_round, 1, 2),
}
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.UAdd: np.positive,
    ast.USub: np.negative,
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
}
COMPARISONS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}

# "007", "1_000", "0x10", "1j", "2t" and "t.real" each fall through to `unknown`, whole.
TOKEN = re.compile(
    rf"""(?P<blank>\s+)
    | (?P<number>((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?)(?![\w.])
    | (?P<name>{"|".join((*VARIABLES, *FUNCTIONS))})(?![\w.])
    | (?P<operator>\*\*|[<>=!]=|/(?!/)|[-+*%<>(),])
    | (?P<unknown>//|[\w.]+|.)""",
    re.VERBOSE | re.DOTALL,
)
KNOWN_NAMES = ", ".join((*VARIABLES, *FUNCTIONS))
KNOWN_SIGNS = "numbers, names, ( ) , + - * / % ** < <= > >= == !="


@dataclass(frozen=True)
class Expression:
    """An expression that was found good; `moves` tells whether it depends on the frame."""

    compiled: Compiled
    moves: bool

    def values(self, frames: NDArray[np.int64], max_frames: int, seed: int) -> Values:
        """Return the value at each of `frames`, (n,).

        Raises a UserError for the first value that is not finite or exceeds MAX_VALUE. What leads to a value
        may be infinite: where(t > 0, 1/t, 0) is good at frame 0 too.
        """
        variables = {
            "t": frames.astype(np.float64),
            "max_f": np.float64(max_frames - 1),
            "s": np.float64(seed),
            "pi": np.float64(np.pi),
            "e": np.float64(np.e),
        }
        with np.errstate(all="ignore"):
            values = np.broadcast_to(self.compiled(variables), frames.shape)
            wrong = np.flatnonzero(~(np.abs(values) <= MAX_VALUE))  # so written, it finds NaN too
        if wrong.size:
            frame, value = frames[wrong[0]], float(values[wrong[0]])
            raise UserError(
                f"its value is {value} at frame {frame}, but must be from {-MAX_VALUE:.0f} to {MAX_VALUE:.0f}"
            )
        return values


def parse(text: str, start: int = 0) -> Expression:
    """Compile `text`, which begins `start` characters into what the user typed.

    Raises a UserError of one sentence, whose characters count from 1 at the beginning of what the user typed.
    """
    if not text.strip():
        raise UserError(f"there is no value at character {start + 1}")
    if len(text) > MAX_CHARS:
        raise UserError(f"the value has {len(text)} characters, but must have at most {MAX_CHARS}")
    _check_tokens(text, start)
    start += len(text) - len(text.lstrip())  # Python would take leading blanks for an indent
    tree = _tree(re.sub(r"\s", " ", text.strip()), start)
    moves = any(isinstance(node, ast.Name) and node.id == "t" for node in ast.walk(tree))
    return Expression(_compile(tree, start, 1), moves)


def _check_tokens(text: str, start: int) -> None:
    """Refuse what is no token of an expression, and brackets too deep for Python's parser."""
    depth = 0
    for match in TOKEN.finditer(text):
        position = start + match.start() + 1
        if match["unknown"]:
            known = KNOWN_NAMES if match[0].isidentifier() else KNOWN_SIGNS
            raise UserError(f"{shown(match[0])} at character {position} is not one of {known}")
        if match["number"] and math.isinf(float(match[0])):
            raise UserError(f"the number at character {position} is too large")
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth > MAX_DEPTH:
            raise _too_deep(position)


def _tree(text: str, start: int) -> ast.expr:
    """Parse `text`, whose tokens are known, into Python's syntax tree."""
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        position = start + (error.offset or len(text) + 1)  # 0 at the end
        raise UserError(f"the value can't be read near character {position}") from error
    except (RecursionError, MemoryError) as error:  # thousands of signs or ** in a row
        raise _too_deep(start + 1) from error


def _compile(node: ast.expr, start: int, depth: int) -> Compiled:
    """Turn a node into a function of the variables, or refuse it."""
    if depth > MAX_DEPTH:
        raise _too_deep(start + node.col_offset + 1)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        value = np.float64(node.value)
        return lambda _: value
    if isinstance(node, ast.Name) and node.id in VARIABLES:
        name = node.id
        return lambda variables: variables[name]
    function, operands = _operation(node, start + node.col_offset + 1)
    parts = [_compile(operand, start, depth + 1) for operand in operands]
    return lambda variables: function(*[part(variables) for part in parts])


def _operation(node: ast.expr, position: int) -> tuple[Callable[..., Any], list[ast.expr]]:
    """Return what a node does and with which operands, or refuse it."""
    match node:
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)], [operand]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)], [left, right]
        case ast.Compare(left=left, ops=ops, comparators=rest) if {*map(type, ops)} <= COMPARISONS.keys():
            return functools.partial(_compare, [COMPARISONS[type(op)] for op in ops]), [left, *rest]
        case ast.Call(func=ast.Name(id=name), args=operands, keywords=[]) if name in FUNCTIONS:
            function, fewest, most = FUNCTIONS[name]
            if fewest <= len(operands) <= most:
                return function, operands
            raise UserError(f"{name} at character {position} can't take {len(operands)} values")
        case ast.Name(id=name):
            raise UserError(f"{name} at character {position} must be followed by its values in brackets")
        case ast.Tuple(elts=values):
            raise UserError(f"there are {len(values)} values at character {position}, but must be one")
        case ast.Call(keywords=[]):
            raise UserError(f"what is called at character {position} is no function; write * to multiply")
    raise UserError(f"what stands at character {position} is no part of an expression")


def _compare(comparisons: list[Callable[..., Any]], *operands: Any) -> Any:
    """Return 1.0 where each operand compares with the next, as in 0 < t < 5, and 0.0 elsewhere."""
    pairs = zip(comparisons, itertools.pairwise(operands), strict=True)
    return math.prod(np.asarray(compare(a, b), np.float64) for compare, (a, b) in pairs)


def _too_deep(position: int) -> UserError:
    return UserError(f"more than {MAX_DEPTH} levels of brackets or operations at character {position}")
