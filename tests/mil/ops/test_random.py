"""Random values follow their distributions: held against the formula of each, and against onnxruntime's samples."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mil.errors import MilError
from mil.ops import random
from tests.mil.ops.opinions import (
    Opinion,
    Row,
    ask_ours,
    assert_covered,
    declared_operations,
    find,
    numpy,
    onnxruntime_run,
)

OPERATIONS = declared_operations("random")
COUNT = 20_000
# Kolmogorov's distance of two samples of this size passes this limit once in 100,000 pairs of right ones; seeds are
# fixed, so that a sample that has passed always does.
LIMIT = 2.47 * math.sqrt(2 / COUNT)
LEVELS = (np.arange(COUNT) + 0.5) / COUNT


def normal_quantiles(mean: float = 0.0, stddev: float = 1.0, **_: object) -> np.ndarray:
    """Where the normal distribution reaches each level: its distribution function read backwards."""
    places = np.linspace(-6, 6, 100_001)
    levels = [0.5 * (1 + math.erf(place / math.sqrt(2))) for place in places]
    return mean + stddev * np.interp(LEVELS, levels, places)


def uniform_quantiles(low: float = 0.0, high: float = 1.0, **_: object) -> np.ndarray:
    return low + (high - low) * LEVELS


def bernoulli_quantiles(prob: float = 0.5, **_: object) -> np.ndarray:
    return (1 - prob < LEVELS).astype(float)


def categorical_quantiles(x: np.ndarray, mode: str = "logits", **_: object) -> np.ndarray:
    weights = np.exp(x.astype(float)) if mode == "logits" else x.astype(float)
    return np.searchsorted(np.cumsum(weights / weights.sum()), LEVELS).astype(float)


def onnx_normal(shape: Sequence[int], mean: float = 0.0, stddev: float = 1.0, seed: int = 0) -> np.ndarray:
    return onnxruntime_run("RandomNormal", [], shape=shape, mean=mean, scale=stddev, seed=5.0)


def onnx_uniform(shape: Sequence[int], low: float = 0.0, high: float = 1.0, seed: int = 0) -> np.ndarray:
    return onnxruntime_run("RandomUniform", [], shape=shape, low=low, high=high, seed=5.0)


def onnx_bernoulli(shape: Sequence[int], prob: float = 0.5, seed: int = 0) -> np.ndarray:
    # Its own Bernoulli gives 1 with the probability of 0: it compares the wrong way round.
    return onnx_multinomial(np.float32([1 - prob, prob]), "probs", math.prod(shape))


def onnx_multinomial(x: np.ndarray, mode: str = "logits", size: int = 1, seed: int = 0) -> np.ndarray:
    logits = x if mode == "logits" else np.log(np.maximum(x, np.float32(1e-30)))
    return onnxruntime_run("Multinomial", [logits.reshape(1, -1)], sample_size=size, seed=5.0, dtype=6)


OPINIONS = {
    "random_bernoulli": (numpy(bernoulli_quantiles), Opinion("onnxruntime", onnx_bernoulli)),
    "random_categorical": (numpy(categorical_quantiles), Opinion("onnxruntime", onnx_multinomial)),
    "random_normal": (numpy(normal_quantiles), Opinion("onnxruntime", onnx_normal)),
    "random_uniform": (numpy(uniform_quantiles), Opinion("onnxruntime", onnx_uniform)),
}
SHAPE = [10, COUNT // 10]
ROWS = (
    *(Row("random_bernoulli", {"shape": SHAPE, "prob": prob, "seed": 1}) for prob in (0.0, 0.1, 0.5, 0.99, 1.0)),
    Row("random_bernoulli", {"shape": SHAPE}, "defaults"),
    *(Row("random_normal", {"shape": SHAPE, "mean": m, "stddev": s, "seed": 2}) for m, s in ((0.0, 1.0), (-3.0, 0.1))),
    Row("random_normal", {"shape": SHAPE}, "defaults"),
    *(Row("random_uniform", {"shape": SHAPE, "low": a, "high": b, "seed": 3}) for a, b in ((0.0, 1.0), (-7.0, 9.0))),
    Row("random_uniform", {"shape": SHAPE}, "defaults"),
    *(
        Row("random_categorical", {"x": np.float32(x), "mode": mode, "size": COUNT, "seed": 4})
        for mode, x in (
            ("logits", [0.0, 1.0, -1.0, 2.0]),
            ("logits", [-500.0, 0.0]),
            ("probs", [0.1, 0.2, 0.0, 0.7]),
            ("probs", [3.0, 1.0]),
            ("probs", [1.0]),
        )
    ),
)


def distance(left: np.ndarray, right: np.ndarray) -> float:
    """Return Kolmogorov's distance: the largest difference of two samples' distribution functions."""
    left, right = np.sort(left.ravel()), np.sort(right.ravel())
    places = np.concatenate([left, right])
    shares = [np.searchsorted(sample, places, side="right") / len(sample) for sample in (left, right)]
    return float(np.abs(shares[0] - shares[1]).max())


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_values_follow_the_distribution(row: Row) -> None:
    """Twenty thousand values lie as close to the formula and to onnxruntime's as samples of one distribution do."""
    (ours,) = ask_ours(find(random, row.operation), row.inputs)
    assert ours.dtype.kind == "f"
    for opinion in OPINIONS[row.operation]:
        theirs = np.asarray(opinion.answer(**row.inputs), np.float64)
        assert distance(ours.astype(np.float64), theirs) < LIMIT, opinion.name


def test_every_operation_has_rows_with_two_opinions() -> None:
    """No operation of the family is missing, misdeclared or judged by one opinion only."""
    assert_covered(random, OPERATIONS, OPINIONS, ROWS)


def test_the_distance_tells_distributions_apart() -> None:
    """The limit is passed by a mean that is off by a tenth, and by a normal sample taken for a uniform one."""
    (ours,) = ask_ours(random.random_normal, {"shape": [COUNT]})
    assert distance(ours + 0.1, normal_quantiles()) > LIMIT
    assert distance(ours, uniform_quantiles(-1.7, 1.7)) > LIMIT


@pytest.mark.parametrize(
    "inputs",
    [{"shape": [3, 4]}, {"shape": [3, 4], "seed": 7}, {"shape": [], "seed": -5}, {"shape": [0, 2], "seed": 0}],
    ids=str,
)
@pytest.mark.parametrize("name", ["random_bernoulli", "random_normal", "random_uniform"])
def test_same_seed_same_values_whatever_torch_has_drawn(name: str, inputs: dict) -> None:
    """Values depend on the seed alone, and torch's global generator is neither read nor advanced."""
    (first,) = ask_ours(find(random, name), inputs)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    (second,) = ask_ours(find(random, name), inputs)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(first, second)
    assert list(first.shape) == inputs["shape"]


@pytest.mark.parametrize("name", ["random_bernoulli", "random_normal", "random_uniform"])
def test_other_seeds_give_other_values(name: str) -> None:
    """No two of twenty seeds share their first hundred values."""
    drawn = {ask_ours(find(random, name), {"shape": [100], "seed": seed})[0].tobytes() for seed in range(-1, 19)}
    assert len(drawn) == 20


@given(st.floats(-100, 100, width=16), st.floats(0.5, 100, width=16), st.integers(-1, 2**31 - 1))
def test_uniform_values_stay_below_high(low: float, span: float, seed: int) -> None:
    """low ≤ value < high, as MIL promises of the interval."""
    (ours,) = ask_ours(random.random_uniform, {"shape": [500], "low": low, "high": low + span, "seed": seed})
    assert (ours >= low).all()
    assert (ours < low + span).all()


@given(arrays.array_shapes(min_dims=1, max_dims=3, max_side=4), st.integers(1, 4))
def test_categorical_keeps_the_leading_axes(shape: tuple[int, ...], size: int) -> None:
    """One distribution per place of the leading axes; a class of probability zero never comes up."""
    x = np.zeros(shape, np.float32)
    x[..., -1] = 1
    (ours,) = ask_ours(random.random_categorical, {"x": x, "mode": "probs", "size": size})
    assert ours.shape == (*shape[:-1], size)
    assert (ours == shape[-1] - 1).all()


def test_unknown_mode_is_refused() -> None:
    """A mode that MIL does not define is an error that names both it does."""
    with pytest.raises(MilError, match="mode 'odds'; expected logits or probs"):
        random.random_categorical(torch.zeros(2), "odds")


@pytest.mark.parametrize("shape", [[2**40, 2**20], [-1, 3]])
def test_hostile_shapes_are_refused_before_they_are_drawn(shape: list[int]) -> None:
    """A negative size, or one that no phone's network has, is an error and never an allocation."""
    with pytest.raises(MilError, match="expected"):
        random.random_uniform(shape)
