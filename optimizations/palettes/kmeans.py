"""Optimal one-dimensional k-means: the palette of a tensor with the least squared error there is.

The problem. Given values x with importances w ≥ 0, choose k entries, each a number that the palette's type can hold,
so that the sum of w (x − nearest entry)² is least. Rounding the entries is part of the problem, not an afterthought:
with 256 entries of fp16 it is a percent of the error.

Clusters are intervals. Sort the distinct values; an optimal cluster is a run of neighbours i < l ≤ j, and costs
C(i, j) = min over entries c of the sum of w_l (x_l − c)². The sum is a parabola in c, so the best entry is the number
nearest to the weighted mean that the type holds.

C is Monge: C(a, c) + C(b, d) ≤ C(a, d) + C(b, c) for a ≤ b ≤ c ≤ d. Let s be best for (a, d] and t for (b, c]. If
s ≤ t, use s for (a, c] and t for (b, d]: the left side less the right is at most the sum over (c, d] of
w ((x − t)² − (x − s)²). The bracket falls as x grows; its weighted sum over (b, c] is ≤ 0, as t is best there, so it
is ≤ 0 for the largest of these and for all of (c, d]. If s > t, exchange the two and look at (a, b]. Nothing was
asked of the set that entries come from, so this holds for rounded entries too.

So the least cost f(k) of k clusters is convex in k (Aggarwal, Schieber and Tokuyama 1994, "Finding a minimum-weight
k-link path in graphs with the concave Monge property and applications"), and a penalty for each cluster turns the
constraint into a shortest path, which the Monge property solves in O(n log n): see `_shortest_path`, and
`_optimal_path` for the search of the penalty.

Arithmetic. The sums over a run are differences of prefix sums held as pairs of float64 (about 106 bits), so outliers
do not drown the rest; the run's cost is then computed in float64, to within 2⁻⁵⁰ of its sum of w x². For fp16 values
that is at worst 1e-8 of the cost of the finest cluster there can be, and 1e-10 of a usual one. fp32 values that lie
within a few units in the last place of each other are told apart only to that accuracy. Sums, products and quotients
in a fixed order are all that is used, so every CPU gives the same bits.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from optimizations.weights.codes import all_finite, codes, half_values, looked_up
from optimizations.weights.compiled import compiled

_MAX_COUNT = 256
# Fewer fp16 values than there are codes are sorted, as fp32 values are.
_HISTOGRAM_PAYS = 1 << 16
# The codes of the fp16 numbers from the least to the largest, without −0.
_ASCENDING = np.concatenate([np.arange(0xFBFF, 0x8000, -1), np.arange(0x7C00)])
_ZERO, _MINUS_ZERO = 0x7BFF, 0x8000  # the place of 0 in it, and the code of −0
# How many positions for bounds an average cluster has in the problem that the first guess of the penalty is from.
_COARSE_STEPS = 16
# How many guesses of the penalty may bring no progress before one that must.
_GUESSES = 3
# Rows of the prefix sums: high and low parts of the sums of w, w·x and w·x², padded to a cache line.
_COLUMNS = 8
_HALF, _SINGLE = 0, 1
_ROUNDINGS = {np.dtype(np.float16): _HALF, np.dtype(np.float32): _SINGLE}


@dataclass(frozen=True)
class Palette:
    """Entries, and which of them stands for each value.

    entries         (count,)  fp16 or fp32, ascending; where fewer are needed, the last one is repeated
    indices         shape of the values, uint8
    squared_error   sum over all values of importance × (value − entry)², in float64
    """

    entries: np.ndarray
    indices: np.ndarray
    squared_error: float


def cluster(
    values: np.ndarray, count: int, importance: np.ndarray | None = None, entry_type: np.dtype | type | None = None
) -> Palette:
    """Return the palette of `count` entries with the least squared error that any such palette has.

    values       any shape, fp16 or fp32
    count        1 to 256
    importance   shape of the values, ≥ 0: how much the squared error of each value counts; None: all the same
    entry_type   np.float16 or np.float32, what entries are rounded to; None: the type of the values

    Each value is given its nearest entry, the lower of two equally near. Values that are at most `count` different
    numbers come back unchanged (−0 as 0) where the entry type holds them. No values at all give entries of 0.
    Raises ValueError for other types and counts, for values that are nan, infinite or beyond the entry type, and for
    importances that are negative, nan, infinite, all 0 or of another shape.
    """
    entry_type = np.dtype(values.dtype if entry_type is None else entry_type)
    _check(values, count, importance, entry_type)
    if values.size == 0:
        return Palette(np.zeros(count, entry_type), np.zeros(values.shape, np.uint8), 0.0)
    flat = np.ascontiguousarray(values).reshape(-1)
    if flat.size < _HISTOGRAM_PAYS:
        flat = flat.astype(np.float32)
    weights, exponent = _scaled(importance)
    distinct, distinct_weights = _histogram(flat, weights)
    entries = _entries(distinct, distinct_weights, count, entry_type)
    squared_error = np.ldexp(_squared_error(distinct, distinct_weights, entries.astype(np.float64)), exponent)
    padded = np.concatenate([entries, np.repeat(entries[-1:], count - entries.size)])
    return Palette(padded, nearest(flat, entries).reshape(values.shape), float(squared_error))


def nearest(values: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """Return the index of the entry nearest to each value, the lower of two equally near.

    values    (n,)  fp16 or fp32, finite
    entries   (count,)  ascending and distinct
    returns   (n,)  uint8
    """
    wide = entries.astype(np.float64)
    midpoints = (wide[1:] + wide[:-1]) / 2
    if values.dtype == np.float16:
        return looked_up(_nearest_by_code(midpoints), codes(values))
    return _count_below(midpoints, values)


def _nearest_by_code(midpoints: np.ndarray) -> np.ndarray:
    """Return how many midpoints are less than each finite number of fp16, by its code: (65536,) uint8."""
    ascending = _ascending_values()
    passed = np.bincount(np.searchsorted(ascending, midpoints, side="right"), minlength=ascending.size)
    found = np.zeros(1 << 16, np.uint8)
    found[_ASCENDING] = np.cumsum(passed[: ascending.size])
    found[_MINUS_ZERO] = found[0]
    return found


@cache
def _ascending_values() -> np.ndarray:
    """Return the numbers of fp16 in the order of `_ASCENDING`, float64, read-only."""
    values = half_values()[_ASCENDING]
    values.setflags(write=False)
    return values


def _check(values: np.ndarray, count: int, importance: np.ndarray | None, entry_type: np.dtype) -> None:
    if values.dtype not in _ROUNDINGS or entry_type not in _ROUNDINGS:
        raise ValueError(f"expected values and entries of float16 or float32, found {values.dtype} and {entry_type}")
    if not 1 <= count <= _MAX_COUNT:
        raise ValueError(f"expected 1 to {_MAX_COUNT} palette entries, found {count}")
    if not all_finite(values):
        raise ValueError(f"{np.count_nonzero(~np.isfinite(values))} of {values.size} values are nan or infinite")
    limit = np.finfo(entry_type).max
    if values.size and entry_type.itemsize < values.dtype.itemsize and np.abs(values).max() > limit:
        raise ValueError(f"values reach {np.abs(values).max():g}, beyond {limit:g}, the largest of {entry_type}")
    if importance is None or (not values.size and importance.shape == values.shape):
        return
    if importance.shape != values.shape:
        raise ValueError(f"expected an importance for each value, {values.shape}, found {importance.shape}")
    if not np.isfinite(importance).all() or importance.min() < 0:
        raise ValueError("importances must be finite and at least 0")
    if importance.max() == 0:
        raise ValueError("all importances are 0, so that no palette is better than another")


def _scaled(importance: np.ndarray | None) -> tuple[np.ndarray | None, int]:
    """Return importances over a power of two that brings the largest into [½, 1), and its exponent."""
    if importance is None:
        return None, 0
    exponent = int(np.frexp(importance.max())[1])
    return np.ldexp(np.ascontiguousarray(importance, np.float64).reshape(-1), -exponent), exponent


def _histogram(flat: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values that have weight, ascending, and the weight of each; both (n,) float64."""
    if flat.dtype == np.float16:
        by_code = _weighed(codes(flat), np.ones(1) if weights is None else weights)
        distinct, sums = _ascending_values(), by_code[_ASCENDING]
        sums[_ZERO] += by_code[_MINUS_ZERO]
    elif weights is None:
        distinct, sums = _counted(np.sort(flat), np.ones(1))
    else:
        order = np.argsort(flat, kind="stable")
        distinct, sums = _counted(flat[order], weights[order])
    return distinct[sums > 0], sums[sums > 0]


def _entries(distinct: np.ndarray, weights: np.ndarray, count: int, entry_type: np.dtype) -> np.ndarray:
    """Return the best entries, ascending and distinct: (at most count,) of the entry type."""
    if distinct.size <= count:
        return np.unique(distinct.astype(entry_type)) + entry_type.type(0)
    sums, rounding = _prefix_sums(distinct, weights), _ROUNDINGS[entry_type]
    penalty = _coarse_penalty(sums, rounding, count, _expected_penalty(distinct, sums, count))
    means = _means(sums, _optimal_path(sums, rounding, count, penalty).bounds, rounding)
    entries = means.astype(entry_type)
    assert (entries == means).all()
    return np.unique(entries) + entry_type.type(0)


@dataclass(frozen=True)
class _Path:
    """Clusters (bounds[m], bounds[m + 1]], their cost, and the penalty at which they are optimal."""

    bounds: np.ndarray
    cost: float
    penalty: float

    @property
    def links(self) -> int:
        return self.bounds.size - 1


def _coarse_penalty(sums: np.ndarray, rounding: int, count: int, first_penalty: float) -> float:
    """Return the penalty for `count` clusters whose bounds are taken from a grid: nearly that for all bounds."""
    n = sums.shape[0] - 1
    stride = n // (_COARSE_STEPS * count)
    if stride < 2:
        return first_penalty
    grid = np.append(np.arange(0, n, stride), n)
    return _optimal_path(sums[grid], rounding, count, first_penalty).penalty


def _optimal_path(sums: np.ndarray, rounding: int, count: int, first_penalty: float) -> _Path:
    """Return the `count` clusters with the least cost of all, and a penalty for which they are best; count < n.

    A path that is shortest at some penalty is the best of all with as many links. `few` and `many` are two such, with
    fewer and more links than wanted; at the start one cluster (any large penalty) and n (none). Each turn tries a
    penalty between theirs and replaces one of them by what it finds. A turn that brings them no closer in links is
    followed, after a few more guesses, by one with the penalty at which both cost the same,

        (f(few) − f(many)) / (links of many − links of few).

    If that finds nothing in between either, f(k) + penalty × k is convex, equal at both ends, and has a minimum at or
    outside the ends; so it is constant between them. Both are then shortest at that penalty, and `_spliced` makes a
    shortest path of exactly `count` links from them: also where the hull of f has flat pieces.
    """
    n = sums.shape[0] - 1
    few, many = (_path(sums, rounding, bounds, penalty) for bounds, penalty in _extremes(n))
    penalty, guesses = first_penalty, 0
    while True:
        level = (few.cost - many.cost) / (many.links - few.links)
        if guesses > _GUESSES or not many.penalty < penalty < few.penalty:
            penalty = level
        found = _path(sums, rounding, _shortest_path(sums, rounding, penalty), penalty)
        if found.links == count:
            return found
        closer = few.links < found.links < many.links
        if penalty == level and not closer:
            return _path(sums, rounding, _spliced(few.bounds, many.bounds, count), penalty)
        guesses = 0 if closer else guesses + 1
        if few.links <= found.links < count:
            few = found
        elif count < found.links <= many.links:
            many = found
        penalty = _interpolated(few, many, count)


def _extremes(n: int) -> tuple[tuple[np.ndarray, float], tuple[np.ndarray, float]]:
    return (np.array([0, n]), np.inf), (np.arange(n + 1), 0.0)


def _path(sums: np.ndarray, rounding: int, bounds: np.ndarray, penalty: float) -> _Path:
    return _Path(bounds, _path_cost(sums, bounds, rounding), penalty)


def _interpolated(few: _Path, many: _Path, count: int) -> float:
    """Return a guess of the penalty for `count` links: its −⅓ power is nearly linear in the number of links.

    For many clusters f(k) is near A / k², so the penalty is near 2A / k³.
    """
    if many.penalty <= 0:
        return few.penalty * _cube(few.links / count)
    if few.penalty == np.inf:
        return many.penalty * _cube(many.links / count)
    low, high = (1 / float(_cube_root(path.penalty)) for path in (few, many))
    guess = low + (high - low) * (count - few.links) / (many.links - few.links)
    return 1 / _cube(guess)


def _expected_penalty(distinct: np.ndarray, sums: np.ndarray, count: int) -> float:
    """Return −f′(count) for a smooth density: the sum of (weight × width²)^⅓ over slices, cubed, over 6 count³.

    Source: Panter and Dite 1951, "Quantization distortion in pulse-count modulation with nonuniform spacing of
    levels": f(k) = (∫ p^⅓)³ / 12 k².
    """
    edges = np.unique(np.linspace(0, distinct.size - 1, 1025).astype(np.int64))
    masses, widths = np.diff(sums[edges, 0]), np.diff(distinct[edges])
    return _cube(float(_sum(_cube_root(masses * widths * widths))) / count) / 6


def _cube(x: float) -> float:
    """Return x³ by two products: powers come from libm, and differ between machines."""
    return x * x * x


def _cube_root(x: np.ndarray | float) -> np.ndarray:
    """Return the cube roots of positive numbers, by Newton's method: those of libm differ between machines."""
    x = np.asarray(x, np.float64)
    root = np.ldexp(1.0, np.frexp(x)[1] // 3 + 1)
    for _ in range(7):
        root = (2 * root + x / (root * root)) / 3
    return root


def _spliced(few: np.ndarray, many: np.ndarray, count: int) -> np.ndarray:
    """Return a shortest path of `count` links, given the bounds of two with fewer and with more.

    Let d = count − links of few, and i the first for which many[i + 1 + d] ≤ few[i + 1]; the last link of `few` is
    one, both ends being n. Then few[i] ≤ many[i + d] too: for i = 0 as 0 ≤ all bounds, else because i − 1 did not
    qualify. The link of `many` from i + d lies inside the link of `few` from i, so by the Monge property the two
    paths that change over there cost together no more than the two given; all four are shortest. The one that follows
    `many` to i + d and then `few` from i + 1 has i + d + 1 + (links of few − i − 1) = count links.
    """
    extra = count - (few.size - 1)
    crossing = int(np.argmax(many[1 + extra : few.size + extra] <= few[1:]))
    return np.concatenate([many[: crossing + extra + 1], few[crossing + 1 :]])


@compiled
def _two_sum(a: float, b: float) -> tuple[float, float]:
    """Return a + b and what rounding took from it. Source: Knuth, The Art of Computer Programming 2, 4.2.2."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


@compiled
def _two_product(a: float, b: float) -> tuple[float, float]:
    """Return a × b and what rounding took from it. Source: Dekker 1971, by Veltkamp's splitting."""
    product = a * b
    a_scaled, b_scaled = a * 134217729.0, b * 134217729.0  # 2²⁷ + 1
    a_high, b_high = a_scaled - (a_scaled - a), b_scaled - (b_scaled - b)
    a_low, b_low = a - a_high, b - b_high
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


@compiled
def _prefix_sums(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the sums of w, w·x and w·x² over the first l values as pairs of float64: (n + 1, _COLUMNS)."""
    sums = np.zeros((x.size + 1, _COLUMNS))
    for i in range(x.size):
        term, rest = w[i], 0.0
        for power in range(3):
            high, carry = _two_sum(sums[i, 2 * power], term)
            sums[i + 1, 2 * power], sums[i + 1, 2 * power + 1] = _two_sum(high, sums[i, 2 * power + 1] + carry + rest)
            term, error = _two_product(term, x[i])
            rest = rest * x[i] + error
    return sums


@compiled
def _rounded(x: float, rounding: int) -> float:
    """Return the nearest number of fp16 or fp32; x lies within the type's range."""
    if rounding == _SINGLE:
        return float(np.float32(x))
    if abs(x) < 6.103515625e-05:  # 2⁻¹⁴: below, fp16 is evenly spaced by 2⁻²⁴
        return (x + 402653184.0) - 402653184.0  # 1.5 × 2⁵²⁻²⁴
    scaled = x * 4398046511105.0  # 2⁴² + 1: Veltkamp's splitting leaves 53 − 42 = 11 bits
    return scaled - (scaled - x)


@compiled
def _run(sums: np.ndarray, i: int, j: int) -> tuple[float, float, float]:
    weight = (sums[j, 0] - sums[i, 0]) + (sums[j, 1] - sums[i, 1])
    first = (sums[j, 2] - sums[i, 2]) + (sums[j, 3] - sums[i, 3])
    second = (sums[j, 4] - sums[i, 4]) + (sums[j, 5] - sums[i, 5])
    return weight, first, second


@compiled
def _cost(sums: np.ndarray, i: int, j: int, rounding: int) -> float:
    """Return C(i, j): the sum of w x² − c (2 w x − c w) over the run, where c is the best entry."""
    weight, first, second = _run(sums, i, j)
    entry = _rounded(first / weight, rounding)
    return second - entry * (2 * first - entry * weight)


@compiled
def _path_cost(sums: np.ndarray, bounds: np.ndarray, rounding: int) -> float:
    total = 0.0
    for m in range(bounds.size - 1):
        total += _cost(sums, bounds[m], bounds[m + 1], rounding)
    return total


@compiled
def _means(sums: np.ndarray, bounds: np.ndarray, rounding: int) -> np.ndarray:
    means = np.empty(bounds.size - 1)
    for m in range(bounds.size - 1):
        weight, first, _ = _run(sums, bounds[m], bounds[m + 1])
        means[m] = _rounded(first / weight, rounding)
    return means


@compiled
def _shortest_path(sums: np.ndarray, rounding: int, penalty: float) -> np.ndarray:
    """Return the bounds of the clusters for which cost + penalty × number of clusters is least.

    best[j] = min over i < j of best[i] + C(i, j) + penalty. As C is Monge, once a later i is at least as good as an
    earlier one it remains so for all larger j. The queue holds the candidates that are best somewhere ahead, in the
    order of their turns, each with the j from which on it leads; a new one removes those that it beats at the start of
    their turn, and finds the start of its own by galloping and bisection.
    """
    n = sums.shape[0] - 1
    best, parent = np.zeros(n + 1), np.zeros(n + 1, np.int64)
    queue, turn = np.zeros(n + 1, np.int64), np.ones(n + 1, np.int64)
    head = tail = 0
    for j in range(1, n + 1):
        while head < tail and turn[head + 1] <= j:
            head += 1
        parent[j] = queue[head]
        best[j] = best[parent[j]] + _cost(sums, parent[j], j, rounding) + penalty
        start = j + 1
        while tail >= head and start <= n:
            start, last = max(turn[tail], j + 1), queue[tail]
            if best[j] + _cost(sums, j, start, rounding) >= best[last] + _cost(sums, last, start, rounding):
                start = _takeover(sums, rounding, best, last, j, start)
                break
            tail -= 1
        if start <= n:
            tail += 1
            queue[tail], turn[tail] = j, start
    return _walked(parent)


@compiled
def _takeover(sums: np.ndarray, rounding: int, best: np.ndarray, old: int, new: int, behind: int) -> int:
    """Return the least j at which `new` beats `old`, or n + 1; it does not at `behind`, nor anywhere before."""
    n, step = sums.shape[0] - 1, 1
    ahead = min(behind + step, n + 1)
    while ahead <= n and (
        best[new] + _cost(sums, new, ahead, rounding) >= best[old] + _cost(sums, old, ahead, rounding)
    ):
        behind, step = ahead, 2 * step
        ahead = min(behind + step, n + 1)
    while ahead - behind > 1:
        middle = (behind + ahead) // 2
        if best[new] + _cost(sums, new, middle, rounding) >= best[old] + _cost(sums, old, middle, rounding):
            behind = middle
        else:
            ahead = middle
    return ahead


@compiled
def _walked(parent: np.ndarray) -> np.ndarray:
    """Return the bounds, ascending, of the path that ends in the last node."""
    links, node = 0, parent.size - 1
    while node > 0:
        links, node = links + 1, parent[node]
    bounds, node = np.zeros(links + 1, np.int64), parent.size - 1
    for m in range(links, 0, -1):
        bounds[m], node = node, parent[node]
    return bounds


@compiled
def _weighed(halves: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weight of each code of fp16, (65536,) float64; one weight stands for all."""
    sums = np.zeros(1 << 16)
    for i in range(halves.size):
        sums[halves[i]] += weights[i] if weights.size > 1 else weights[0]
    return sums


@compiled
def _counted(ascending: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values of a sorted array and the sum of weights of each; one weight stands for all."""
    distinct, sums, last = np.empty(ascending.size), np.zeros(ascending.size), -1
    for i in range(ascending.size):
        if last < 0 or ascending[i] != distinct[last]:
            last += 1
            distinct[last] = ascending[i]
        sums[last] += weights[i] if weights.size > 1 else weights[0]
    return distinct[: last + 1], sums[: last + 1]


@compiled
def _count_below(midpoints: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return how many midpoints are less than each value: (n,) uint8."""
    found = np.empty(values.size, np.uint8)
    for i in range(values.size):
        low, high = 0, midpoints.size
        while low < high:
            middle = (low + high) // 2
            if midpoints[middle] < values[i]:
                low = middle + 1
            else:
                high = middle
        found[i] = low
    return found


@compiled
def _squared_error(distinct: np.ndarray, weights: np.ndarray, entries: np.ndarray) -> float:
    """Return the sum of weight × (value − nearest entry)²; values and entries ascend."""
    total, entry = 0.0, 0
    for i in range(distinct.size):
        while entry + 1 < entries.size and abs(distinct[i] - entries[entry + 1]) < abs(distinct[i] - entries[entry]):
            entry += 1
        error = distinct[i] - entries[entry]
        total += weights[i] * error * error
    return total


@compiled
def _sum(values: np.ndarray) -> float:
    """Return the sum in index order, the same on every CPU."""
    total = 0.0
    for value in values:
        total += value
    return total
