"""Palettes of the least squared error: against brute force, a quadratic programme, and coremltools' exact routine."""

import itertools
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from optimizations.palettes import kmeans
from optimizations.palettes.kmeans import cluster
from tests.fixtures import FIXTURES, needs_fixtures

halves = st.floats(width=16, allow_nan=False, allow_infinity=False)
singles = st.floats(-1e6, 1e6, width=32)
# Neighbouring fp16 values: the finest clusters there can be.
neighbours = st.integers(0x3BF0, 0x3C10).map(lambda bits: float(np.uint16(bits).view(np.float16)))


def exact_error(values, weights, entries) -> Fraction:
    """The sum of weight × squared distance to the nearest entry, in rational numbers."""
    entries = [Fraction(float(entry)) for entry in entries]
    distances = (min((Fraction(float(value)) - entry) ** 2 for entry in entries) for value in values)
    return sum((Fraction(float(w)) * d for w, d in zip(weights, distances, strict=True)), Fraction(0))


def best_entry(run, weights, entry_type) -> float:
    """The number of the type nearest to the weighted mean, found among the neighbours of a guess."""
    total = sum(Fraction(float(w)) for w in weights)
    mean = sum(Fraction(float(w)) * Fraction(float(x)) for x, w in zip(run, weights, strict=True)) / total
    guess = entry_type(float(mean))
    around = [guess, np.nextafter(guess, entry_type(-np.inf)), np.nextafter(guess, entry_type(np.inf))]
    return min((float(x) for x in around if np.isfinite(x)), key=lambda x: abs(Fraction(x) - mean))


def brute_force(values, weights, count, entry_type) -> Fraction:
    """The least error over every way to cut the sorted values into at most `count` runs."""
    pairs = sorted((float(x), float(w)) for x, w in zip(values, weights, strict=True) if w > 0)
    best = None
    for cuts in itertools.chain.from_iterable(
        itertools.combinations(range(1, len(pairs)), chosen) for chosen in range(min(count, len(pairs)))
    ):
        runs = [pairs[a:b] for a, b in itertools.pairwise([0, *cuts, len(pairs)])]
        entries = [best_entry([x for x, _ in run], [w for _, w in run], entry_type) for run in runs]
        error = exact_error([x for x, _ in pairs], [w for _, w in pairs], entries)
        best = error if best is None or error < best else best
    return best


def assert_optimal(values, weights, count, palette, entry_type):
    """The palette is as good as the best, to the accuracy that the module's docstring states."""
    best = brute_force(values, weights, count, entry_type)
    found = exact_error(values, weights, palette.entries)
    energy = sum(Fraction(float(w)) * Fraction(float(x)) ** 2 for x, w in zip(values, weights, strict=True))
    assert best <= found <= best + energy * Fraction(1, 1 << 48)
    decoded = palette.entries[palette.indices.astype(int)]
    used = sum(
        Fraction(float(w)) * (Fraction(float(x)) - Fraction(float(y))) ** 2
        for x, w, y in zip(values, weights, decoded, strict=True)
    )
    assert used == found
    assert palette.squared_error == pytest.approx(float(found), rel=1e-12, abs=1e-300)


def quadratic_programme(values, weights, count) -> float:
    """The least cost of `count` runs for unrounded means, by the textbook recurrence over all pairs."""
    x, w = values.astype(np.longdouble), weights.astype(np.longdouble)
    zero = np.zeros(1, np.longdouble)
    s0, s1, s2 = (np.concatenate([zero, np.cumsum(w * x**power)]) for power in range(3))
    i, j = np.triu_indices(x.size + 1, 1)
    cost = np.full((x.size + 1, x.size + 1), np.inf, np.longdouble)
    cost[i, j] = (s2[j] - s2[i]) - (s1[j] - s1[i]) ** 2 / (s0[j] - s0[i])
    best = cost[0]
    for _ in range(count - 1):
        best = (best[:, None] + cost).min(axis=0)
    return float(best[-1])


@settings(max_examples=150, deadline=None)
@given(st.lists(halves | neighbours, min_size=1, max_size=9), st.integers(1, 6))
def test_half_palettes_are_optimal(values, count):
    """No set of fp16 entries has a lower squared error, rounding of the entries included."""
    array = np.array(values, np.float16)
    assert_optimal(values, np.ones(len(values)), count, cluster(array, count), np.float16)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(halves | neighbours, st.floats(0, 1e3)), min_size=1, max_size=8).filter(
        lambda pairs: any(weight > 0 for _, weight in pairs)
    ),
    st.integers(1, 5),
)
def test_weighted_palettes_are_optimal(pairs, count):
    """Squared errors count by importance; values of no importance move no entry."""
    values, weights = np.array(pairs).T
    # Importances below the float64 that the largest can be added to count as nothing.
    weights[weights < weights.max() * 1e-30] = 0
    palette = cluster(values.astype(np.float16), count, weights)
    assert_optimal(values, weights, count, palette, np.float16)


@settings(max_examples=150, deadline=None)
@given(st.lists(singles, min_size=1, max_size=8), st.integers(1, 5), st.sampled_from([np.float32, np.float16]))
def test_single_palettes_are_optimal(values, count, entry_type):
    """fp32 values get the best entries of fp32, or the best of fp16 where that is asked for."""
    array = np.array(values, np.float32).clip(-60000, 60000)
    assert_optimal(array.tolist(), np.ones(array.size), count, cluster(array, count, entry_type=entry_type), entry_type)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-300, 300), st.integers(1, 50)), min_size=2, max_size=60, unique_by=lambda p: p[0]),
    st.data(),
)
def test_every_count_is_hit(pairs, data):
    """The penalty search ends at exactly the count wanted, for integers, whose costs tie exactly and often."""
    x, w = np.array(sorted(pairs), np.float64).T
    count = data.draw(st.integers(1, x.size))
    repeated = np.repeat(x, w.astype(int)).astype(np.float16)
    found = cluster(repeated, count, entry_type=np.float32)
    assert found.squared_error == pytest.approx(quadratic_programme(x, w, count), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("count", range(1, 13))
def test_flat_hull_is_spliced(count):
    """Evenly spaced values make f linear over wide stretches, where no penalty alone gives the count."""
    values = np.arange(12, dtype=np.float16)
    palette = cluster(values, count, entry_type=np.float32)
    assert palette.squared_error == pytest.approx(quadratic_programme(values, np.ones(12), count), abs=1e-12)
    assert len(set(palette.indices.tolist())) == count


def test_splice_has_the_links_and_the_cost():
    """Of two shortest paths with 6 and 12 links, one with each number between is made, at no more cost."""
    sums = kmeans._prefix_sums(np.arange(12.0), np.ones(12))
    few, many = np.arange(0, 13, 2), np.arange(13)
    for count in range(7, 12):
        bounds = kmeans._spliced(few, many, count)
        assert bounds.size == count + 1
        assert (np.diff(bounds) > 0).all()
        assert kmeans._path_cost(sums, bounds, kmeans._SINGLE) == pytest.approx(0.5 * (12 - count))


def test_outliers_do_not_drown_the_rest():
    """Two values of 60000 among thousands near 1e-5 leave the palette of the rest as good as it was."""
    rest = (np.random.default_rng(3).standard_normal(4000) * 1e-4).astype(np.float16)
    with_outliers = np.concatenate([rest, np.array([60000, -60000], np.float16)])
    alone, together = cluster(rest, 14), cluster(with_outliers, 16)
    assert together.squared_error == pytest.approx(alone.squared_error, rel=1e-9)


@pytest.mark.parametrize("count", [2, 16, 64, 256])
def test_large_tensor_against_quadratic_programme(count):
    """With 500 distinct values, the textbook programme over all pairs finds no less."""
    rng = np.random.default_rng(count)
    x = np.unique(rng.standard_normal(700).astype(np.float16))[:500]
    w = rng.integers(1, 30, x.size)
    found = cluster(np.repeat(x, w), count, entry_type=np.float32)
    assert found.squared_error == pytest.approx(quadratic_programme(x, w.astype(float), count), rel=1e-5)


@needs_fixtures
@pytest.mark.parametrize("count", [16, 64, 256])
@pytest.mark.parametrize("name", ["lstm.weight_ih_l3", "lstm.weight_hh_l0", "sincnet.conv1d.1.weight"])
def test_no_worse_than_coremltools_on_trained_weights(name, count):
    """On trained weights the error is that of coremltools' exact routine, and lower once entries are fp16."""
    pytest.importorskip("coremltools")
    from coremltools._deps import kmeans1d

    values = load_file(FIXTURES / "segmentation-3.0" / "model.safetensors")[name].astype(np.float16)
    assert np.unique(values).size > 10_000
    distinct, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    theirs = kmeans1d.cluster(distinct, count, weights=counts)
    centroids, clusters = np.array(theirs.centroids), np.array(theirs.clusters)[position.reshape(-1)]

    def error(entries: np.ndarray) -> float:
        return float(((values.reshape(-1).astype(np.float64) - entries.astype(np.float64)[clusters]) ** 2).sum())

    unrounded = cluster(values, count, entry_type=np.float32).squared_error
    assert unrounded == pytest.approx(error(centroids), rel=1e-6)
    assert cluster(values, count).squared_error <= error(centroids.astype(np.float16))


def test_few_distinct_values_are_lossless():
    """At most as many different values as entries come back bit for bit; the palette is padded with its last entry."""
    values = np.array([[0.1, -3, 0.1], [7, 7, 65504]], np.float16)
    palette = cluster(values, 8)
    assert np.array_equal(palette.entries[palette.indices], values)
    assert palette.squared_error == 0
    assert palette.entries.tolist() == np.sort(np.append(np.unique(values), [np.float16(65504)] * 4)).tolist()


def test_constant_tensor_is_lossless():
    """One value is one entry, repeated."""
    palette = cluster(np.full((3, 5), 0.25, np.float32), 4)
    assert palette.entries.tolist() == [0.25] * 4
    assert not palette.indices.any()


def test_empty_tensor_gives_entries_of_zero():
    """Nothing to stand for: zeros, no indices, no error."""
    palette = cluster(np.zeros((0, 3), np.float16), 4)
    assert palette.entries.tolist() == [0] * 4
    assert palette.indices.shape == (0, 3)
    assert palette.squared_error == 0


def test_negative_zero_is_zero():
    """−0 and 0 are one value, so they take one entry, which is 0."""
    palette = cluster(np.array([-0.0, 0.0, 1.0], np.float16), 2)
    assert palette.entries.tolist() == [0, 1]
    assert not np.signbit(palette.entries).any()


def test_singles_that_share_a_half_are_merged():
    """fp32 values that round to the same fp16 entry need it once; the rest of the palette is padding."""
    values = np.float32(1) + np.arange(20, dtype=np.float32) * np.float32(1e-6)
    palette = cluster(values, 4, entry_type=np.float16)
    assert palette.entries.tolist() == [1] * 4


def test_subnormal_halves_are_told_apart():
    """The smallest fp16 numbers have their own spacing."""
    values = (np.arange(1, 7) * 2.0**-24).astype(np.float16)
    palette = cluster(values, 3)
    assert palette.squared_error == 3 * 2.0**-48
    assert cluster(values, 6).squared_error == 0


def test_importance_scale_is_free():
    """Importances in any unit, even near the ends of float64, give the same entries."""
    values = np.random.default_rng(0).standard_normal(3000).astype(np.float16)
    importance = np.random.default_rng(1).random(3000)
    usual, large, small = (cluster(values, 16, importance * scale) for scale in (1, 2.0**1000, 2.0**-900))
    assert np.array_equal(usual.entries, large.entries)
    assert np.array_equal(usual.entries, small.entries)
    assert large.squared_error == usual.squared_error * 2.0**1000


@pytest.mark.parametrize(
    ("values", "count", "importance", "entry_type", "message"),
    [
        (np.array([1, np.nan, np.inf], np.float16), 2, None, None, "2 of 3 values are nan or infinite"),
        (np.zeros(3), 2, None, None, "expected values and entries of float16 or float32, found float64"),
        (np.zeros(3, np.int8), 2, None, None, "found int8"),
        (np.zeros(3, np.float32), 2, None, np.float64, "float64"),
        (np.zeros(3, np.float16), 0, None, None, "expected 1 to 256 palette entries, found 0"),
        (np.zeros(3, np.float16), 257, None, None, "found 257"),
        (np.array([1e5], np.float32), 2, None, np.float16, "beyond 65504"),
        (np.zeros(3, np.float16), 2, np.ones(2), None, "expected an importance for each value"),
        (np.zeros(3, np.float16), 2, np.array([1, -1, 1.0]), None, "importances must be finite and at least 0"),
        (np.zeros(3, np.float16), 2, np.array([1, np.nan, 1.0]), None, "importances must be finite and at least 0"),
        (np.zeros(3, np.float16), 2, np.zeros(3), None, "all importances are 0"),
    ],
)
def test_bad_input_is_refused(values, count, importance, entry_type, message):
    """What no palette can be made for is refused in a sentence."""
    with pytest.raises(ValueError, match=message):
        cluster(values, count, importance, entry_type)


def test_noncontiguous_values_are_taken_in_order():
    """A transposed view gets the indices of its own elements."""
    values = np.random.default_rng(5).standard_normal((40, 30)).astype(np.float16).T
    whole = cluster(np.ascontiguousarray(values), 8)
    view = cluster(values, 8)
    assert np.array_equal(whole.indices, view.indices)


def test_another_instruction_set_gives_the_same_bits(tmp_path):
    """Code compiled for the plainest CPU of the kind makes the same palette as code compiled for this one."""
    program = (
        "import hashlib, numpy as np; from optimizations.palettes.kmeans import cluster;"
        "x = (np.random.default_rng(0).standard_normal(50000) * .05).astype(np.float16);"
        "p = cluster(x, 64, np.abs(x).astype(np.float64));"
        "print(hashlib.sha256(p.entries.tobytes() + p.indices.tobytes()).hexdigest(), p.squared_error.hex())"
    )

    def run(**environment: str) -> str:
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), **environment}
        return subprocess.run(
            [sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, env=environment
        ).stdout

    assert run() == run(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="", NPY_DISABLE_CPU_FEATURES="AVX2 FMA3")
