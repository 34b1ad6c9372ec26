"""Operations on two tensors agree with coremltools, onnxruntime and exact arithmetic."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mil.ops import elementwise_binary
from tests.mil.ops.opinions import (
    EDGES,
    FINITE,
    Opinion,
    Row,
    agree,
    ask_ours,
    assert_covered,
    coremltools,
    declared_operations,
    find,
    numpy,
    onnxruntime_node,
)

OPERATIONS = declared_operations("elementwise_binary")
MOST, LEAST = 2**31 - 1, -(2**31)


def exactly(rule: Callable[[Fraction, Fraction], Fraction | int]) -> Opinion:
    """The opinion of rational arithmetic, for finite numbers and divisors other than zero."""

    def answer(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        pairs = np.broadcast(x, y)
        values = [rule(Fraction(a.item()), Fraction(b.item())) for a, b in pairs]
        kind = np.int64 if x.dtype.kind == "i" else np.float64
        return np.array([kind(value) for value in values], kind).reshape(pairs.shape)

    return numpy(answer)


def modulo(x: Fraction, y: Fraction) -> Fraction:
    return x - y * math.floor(x / y)


def integer_or_exact_quotient(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    cut = exactly(lambda a, b: math.trunc(a / b)) if x.dtype.kind == "i" else exactly(lambda a, b: a / b)
    return cut.answer(x, y)


def both(operation: str, op_type: str = "") -> tuple[Opinion, Opinion]:
    return coremltools(operation), onnxruntime_node(op_type or operation.capitalize(), "x", "y")


OPINIONS = {
    "add": both("add"),
    "equal": both("equal"),
    "floor_div": (coremltools("floor_div"), exactly(lambda a, b: math.floor(a / b))),
    "greater": both("greater"),
    "greater_equal": both("greater_equal", "GreaterOrEqual"),
    "less": both("less"),
    "less_equal": both("less_equal", "LessOrEqual"),
    "logical_and": both("logical_and", "And"),
    "logical_or": both("logical_or", "Or"),
    "logical_xor": both("logical_xor", "Xor"),
    "maximum": both("maximum", "Max"),
    "minimum": both("minimum", "Min"),
    "mod": (coremltools("mod"), exactly(modulo)),
    "mul": both("mul"),
    "not_equal": (coremltools("not_equal"), numpy(lambda x, y: ~(x == y))),
    "pow": both("pow"),
    "real_div": (*both("real_div", "Div"), numpy(integer_or_exact_quotient)),
    "sub": both("sub"),
}
LOGICAL = ("logical_and", "logical_or", "logical_xor")
NUMERIC = tuple(name for name in OPINIONS if name not in LOGICAL)
DIVISIONS = ("floor_div", "mod", "real_div")

RANDOM = np.random.default_rng(2)
SHAPES = (
    ((2, 1, 3), (4, 1)),
    ((), (2, 3)),
    ((5,), ()),
    ((), ()),
    ((0, 3), (1, 3)),
    ((1,), (1,)),
    ((2, 3, 17), (2, 3, 17)),
)
ALL_PAIRS = {"x": EDGES[:, None], "y": EDGES[None, :]}
ZERO = "cannot divide by zero or tell infinities"


def floats(shape: tuple[int, ...]) -> np.ndarray:
    return (RANDOM.uniform(0.5, 4, shape)).astype(np.float32)


def integers(shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(RANDOM.integers(1, 9, shape), np.int32)


INTEGER_PAIRS = {"x": np.int32([[7, -7, 7, -7, 0, MOST, LEAST]]), "y": np.int32([[2, 2, -2, -2, 3, -1, 7]])}

ROWS = (
    *(Row(name, {"x": floats(a), "y": floats(b)}) for name in NUMERIC for a, b in SHAPES),
    *(Row(name, {"x": integers(a), "y": integers(b)}, f"integers {a} {b}") for name in NUMERIC for a, b in SHAPES),
    *(
        Row(name, {"x": np.asarray(floats(a) > 2), "y": np.asarray(floats(b) > 2)})
        for name in LOGICAL
        for a, b in SHAPES
    ),
    *(Row(name, ALL_PAIRS, "all pairs of edges", 1e-4) for name in NUMERIC if name not in DIVISIONS),
    *(Row(name, ALL_PAIRS, "all pairs of edges", not_asked={"numpy": ZERO}) for name in DIVISIONS),
    *(
        Row(name, {"x": FINITE[:, None], "y": np.float32([[0.75, -3, 2.5, -65504]])}, "finite edges", atol=1e-3)
        for name in DIVISIONS
    ),
    *(Row(name, INTEGER_PAIRS, "integers of both signs") for name in DIVISIONS),
    *(
        Row(name, {"x": np.int32([5, -5, 0]), "y": np.int32([0])}, "integers by zero", not_asked={"numpy": ZERO})
        for name in ("floor_div", "mod")
    ),
    Row("add", {"x": np.int32([MOST, LEAST]), "y": np.int32([1, -1])}, "integers that wrap"),
    Row("mul", {"x": np.int32([MOST, 65536]), "y": np.int32([2, 65536])}, "integers that wrap"),
    Row("sub", {"x": np.int32([LEAST]), "y": np.int32([1])}, "integers that wrap"),
    Row("pow", {"x": np.int32([[2, -3, 10, 0, -1]]), "y": np.int32([[3], [0], [1]])}, "integers"),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operation_agrees_with_other_opinions(row: Row) -> None:
    """What MIL's operations on two tensors give is what at least one other implementation gives."""
    agree(elementwise_binary, OPINIONS, row)


def test_every_operation_has_rows_with_two_opinions() -> None:
    """No operation of the family is missing, misdeclared or judged by one opinion only."""
    assert_covered(elementwise_binary, OPERATIONS, OPINIONS, ROWS)


def test_integers_divide_without_stopping_the_process() -> None:
    """Division by zero gives zero, and the quotient that does not fit wraps; on x86 both are traps."""
    inputs = {"x": np.int32([5, -5, LEAST]), "y": np.int32([0, 0, -1])}
    for name, last in (("floor_div", LEAST), ("real_div", LEAST), ("mod", 0)):
        assert ask_ours(find(elementwise_binary, name), inputs)[0].tolist() == [0, 0, last]


def test_negative_powers_of_integers_are_cut_off_towards_zero() -> None:
    """Of the integers only one and minus one have a reciprocal that is not 0."""
    inputs = {"x": np.int32([2, -3, 1, -1, -1]), "y": np.int32([-1, -2, -5, -1, -2])}
    assert ask_ours(elementwise_binary.pow, inputs)[0].tolist() == [0, 0, 1, -1, 1]


PAIRS = arrays.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4, min_side=0)
PLAIN = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "real_div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "greater": np.greater,
    "less_equal": np.less_equal,
    "equal": np.equal,
    "floor_div": np.floor_divide,
    "mod": np.remainder,
}


@given(PAIRS, st.sampled_from(sorted(PLAIN)), st.data())
def test_any_two_shapes_that_broadcast_do_so_as_in_numpy(
    shapes: arrays.BroadcastableShapes, name: str, data: st.DataObject
) -> None:
    """Shape and values are numpy's for any shapes that broadcast and any floats, NaN and infinities too."""
    elements = st.floats(width=32)
    x, y = (data.draw(arrays.arrays(np.float32, shape, elements=elements)) for shape in shapes.input_shapes)
    (ours,) = ask_ours(find(elementwise_binary, name), {"x": x, "y": y})
    assert ours.shape == shapes.result_shape
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(ours, PLAIN[name](x, y), rtol=1e-6)


@given(st.integers(LEAST, MOST), st.integers(LEAST, MOST).filter(bool))
def test_integer_division_leaves_what_mod_says(x: int, y: int) -> None:
    """floor_div, mod and real_div are Python's //, % and a quotient cut off towards zero, wrapped to 32 bits."""
    inputs = {"x": np.array(x, np.int32), "y": np.array(y, np.int32)}
    quotient, rest, cut = (
        int(ask_ours(find(elementwise_binary, name), inputs)[0]) for name in ("floor_div", "mod", "real_div")
    )
    assert (quotient - x // y) % 2**32 == 0
    assert rest == x % y
    assert (cut - math.trunc(Fraction(x, y))) % 2**32 == 0
