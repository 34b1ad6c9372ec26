"""The pass that gives each weight the width that it needs."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from optimizations.mixed.allocation import Choice, front
from optimizations.mixed.compensation import DAMPING, compensated
from optimizations.mixed.moments import Moments
from optimizations.mixed.outputs import loss, package_with, run
from optimizations.mixed.search import by_recording, exchanged, rounded
from optimizations.mixed_palette import Options, apply
from optimizations.palettes.kmeans import cluster, nearest
from optimizations.palettize import Options as PalettizeOptions
from optimizations.palettize import apply as palettize
from pipeline.types import Calibration, Example, QuernError, Tensor

ct = pytest.importorskip("coremltools")
from coremltools.converters.mil import Builder as mb  # noqa: E402, N813
from coremltools.converters.mil.mil import types  # noqa: E402

from mil.package import read_package  # noqa: E402
from mil.program import Program  # noqa: E402
from tests.optimizations.packages import content, normal, saved, weights_by_coremltools  # noqa: E402

STEPS, WIDTH, HIDDEN, CLASSES = 40, 24, 32, 48
NAMES = ("main/layer_weight_ih", "main/layer_weight_hh", "main/head_weight")
OUTPUTS = (Tensor("out", ("frame", "batch", "class"), (STEPS, 1, CLASSES), "float16", "log probability"),)


def network(path: Path, target=ct.target.iOS17) -> Path:
    """A recurrent layer and a head over classes, with weights of normal numbers."""
    scale = np.float16(6)

    @mb.program(input_specs=[mb.TensorSpec((STEPS, 1, WIDTH), dtype=types.fp16)], opset_version=target)
    def program(x):
        x = mb.mul(x=x, y=np.float16(2), name="louder")
        zeros = np.zeros((1, HIDDEN), np.float16)
        y, _, _ = mb.lstm(
            x=x,
            initial_h=zeros,
            initial_c=zeros,
            weight_ih=mb.const(val=normal(1, 4 * HIDDEN, WIDTH) * scale, name="layer_weight_ih"),
            weight_hh=mb.const(val=normal(2, 4 * HIDDEN, HIDDEN) * scale, name="layer_weight_hh"),
            bias=mb.const(val=normal(3, 4 * HIDDEN), name="layer_bias"),
            output_sequence=True,
        )
        weight = mb.const(val=normal(4, CLASSES, HIDDEN) * np.float16(30), name="head_weight")
        scores = mb.linear(x=y, weight=weight, bias=mb.const(val=normal(5, CLASSES), name="head_bias"))
        return mb.log(x=mb.softmax(x=scores, axis=-1), name="out")

    return saved(program, target, path)


def examples(seed: int, count: int = 4) -> Iterator[Example]:
    """Correlated features, as those of real layers are."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).standard_normal((4, WIDTH))
    for i in range(count):
        x = generator.standard_normal((STEPS, 1, 4)) @ mixing + 0.1 * generator.standard_normal((STEPS, 1, WIDTH)) + 1
        yield Example(f"r{seed}@{i}s", {"x": x.astype(np.float16)})


CALIBRATION = Calibration(lambda: examples(1), lambda: examples(2), OUTPUTS, {"seeds": [1, 2]})
LOW = 1000


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return network(tmp_path_factory.mktemp("network") / "source.mlpackage")


def options(**chosen) -> Options:
    return Options(weight_threshold=LOW, **chosen)


def product_error(weight: np.ndarray, values: np.ndarray, covariance: np.ndarray) -> float:
    error = weight.astype(np.float64) - values
    return float(((error @ covariance) * error).sum())


def test_compensation_lessens_the_error_of_products():
    """On correlated features the products lose less than half of what nearest entries lose; on white ones, as much."""
    generator = np.random.default_rng(0)
    weight = normal(0, 64, 48)
    entries = np.unique(cluster(weight, 16).entries)
    plain = entries.astype(np.float64)[nearest(weight.reshape(-1), entries).reshape(weight.shape)]
    x = generator.standard_normal((2000, 6)) @ generator.standard_normal((6, 48))
    x += 0.1 * generator.standard_normal(x.shape)
    covariance = x.T @ x / len(x)
    indices = compensated(weight, entries, Moments(np.zeros(48), covariance))
    found = entries.astype(np.float64)[indices]
    assert product_error(weight, found, covariance) < 0.5 * product_error(weight, plain, covariance)
    white = entries.astype(np.float64)[compensated(weight, entries, Moments(np.zeros(48), np.eye(48)))]
    assert np.array_equal(white, plain)


def test_features_that_never_vary_are_no_trouble():
    """A covariance of zeros, or of one direction, still gives the nearest entries or better."""
    weight = normal(0, 32, 16)
    entries = np.unique(cluster(weight, 16).entries)
    for covariance in (np.zeros((16, 16)), np.ones((16, 16))):
        indices = compensated(weight, entries, Moments(np.zeros(16), covariance))
        error = weight - entries.astype(np.float64)[indices]
        damped = covariance / max(np.trace(covariance) / 16, 1) + DAMPING * np.eye(16)
        nearest_error = weight - entries[nearest(weight.reshape(-1), entries).reshape(weight.shape)].astype(np.float64)
        assert ((error @ damped) * error).sum() <= ((nearest_error @ damped) * nearest_error).sum() + 1e-12


def test_the_front_is_what_exhaustive_search_finds():
    """For every budget, no combination within it costs less than the last assignment of the front that fits."""
    generator = np.random.default_rng(3)
    for _ in range(20):
        choices = {
            f"w{i}": [
                Choice(width, 64 * int(generator.integers(1, 40)), float(2.0 ** -generator.integers(0, 12)))
                for width in (2, 4, 6)
            ]
            for i in range(4)
        }
        curve = front(choices)
        combinations = [
            (sum(c.size_bytes for c in each), sum(c.cost for c in each))
            for each in itertools.product(*choices.values())
        ]
        for budget in range(curve[0].size_bytes, 64 * 160, 64):
            fitting = [each for each in curve if each.size_bytes <= budget][-1]
            assert fitting.cost == min(cost for size, cost in combinations if size <= budget)
        assert curve[0].size_bytes == min(size for size, _ in combinations)


def test_exchanges_find_what_sums_of_costs_do_not_tell():
    """Where two weights are worse together than apart, one of them gets the bits of a third; nothing grows."""
    choices = {name: [Choice(w, 64 * w, 2.0**-w) for w in (2, 4, 6)] for name in "abc"}
    together = {"a": 2, "b": 2, "c": 6}

    def divergence(widths):
        alone = sum(2.0**-width for width in widths.values())
        return alone + (10 if widths["a"] < 4 and widths["b"] < 4 else 0)

    told: list[str] = []
    found = exchanged(choices, 64 * 10, together, divergence, told.append)
    assert told[0] == "exchange 1 of 60 between weights"
    assert divergence(found) < divergence(together) / 10
    assert sum(found.values()) <= 10


def test_exchanges_keep_what_is_best():
    """Nothing is given up for what loses as much."""
    choices = {name: [Choice(w, 64 * w, 2.0**-w) for w in (2, 4, 6)] for name in "abc"}
    found = exchanged(choices, 64 * 12, dict.fromkeys("abc", 4), lambda widths: 1.0, lambda text: None)
    assert found == dict.fromkeys("abc", 4)


def test_costs_are_rounded_to_quarters_of_an_octave():
    """Numbers that differ in their last digits round alike; zero stays zero."""
    assert rounded(0.0) == rounded(-1e-12) == 0.0
    assert rounded(1.0) == 1.0
    assert rounded(0.3) == rounded(0.3 * (1 + 1e-9))
    assert abs(np.log2(rounded(0.3) / 0.3)) <= 1 / 8


def test_examples_are_spread_over_each_recording():
    """As many of each recording, from its middle rather than its edges; a short recording gives what it has."""
    found = [Example(f"{name}@{i}s", {}) for name, count in (("a", 9), ("b", 1)) for i in range(count)]
    assert [each.name for each in by_recording(lambda: found, 3)] == ["a@1s", "a@4s", "a@7s", "b@0s"]


@pytest.mark.parametrize("size_mb", [0.004, 0.006, 0.009])
def test_a_size_is_kept_and_used(source, tmp_path, memo, size_mb):
    """The files are as large as the front says, within the budget; the last choice that fits it is taken."""
    found = apply(source, options(size_mb=size_mb), memo, tmp_path / "ours.mlpackage", CALIBRATION)
    assert found["weight_bytes"]["after"] <= size_mb * 1e6
    fitting = [size for size, _ in found["curve"] if size <= size_mb * 1e6]
    assert found["weight_bytes"]["after"] == fitting[-1]
    assert sorted(found["decided"]["assignment"]) == sorted(NAMES)
    assert found["measured"]["held_out"]["windows"] == 4
    assert 0 < found["measured"]["held_out"]["worst"] <= found["measured"]["held_out"]["argmax"] <= 1
    assert all(np.isfinite(value).all() for value in weights_by_coremltools(tmp_path / "ours.mlpackage").values()
               if value.dtype.kind == "f")  # fmt: skip
    json.dumps(found)


def test_a_pinned_assignment_gives_the_same_bytes(source, tmp_path, memo):
    """What was found, written into the options, needs no search: nothing is measured, and the package is the same."""
    found = apply(source, options(size_mb=0.006), memo, tmp_path / "a.mlpackage", CALIBRATION)
    made = memo.made
    pinned = options(assignment=found["decided"]["assignment"])
    again = apply(source, pinned, memo, tmp_path / "b.mlpackage", CALIBRATION)
    assert content(tmp_path / "a.mlpackage") == content(tmp_path / "b.mlpackage")
    assert memo.made == made
    assert "sensitivity" not in again


def test_costs_are_measured_once_for_all_sizes(source, tmp_path, memo):
    """Another size of the same package recalls the measurements and every palette."""
    apply(source, options(size_mb=0.006), memo, tmp_path / "a.mlpackage", CALIBRATION)
    made = memo.made
    apply(source, options(size_mb=0.004), memo, tmp_path / "b.mlpackage", CALIBRATION)
    assert memo.made == made


def test_compensation_helps_on_recordings_that_it_has_not_heard(source, tmp_path, memo):
    """With the same widths, the outputs on held-out inputs lose less than with nearest entries."""
    lost = []
    for flag in (True, False):
        chosen = options(assignment=dict.fromkeys(NAMES, 4), compensate=flag)
        found = apply(source, chosen, memo, tmp_path / f"{flag}.mlpackage", CALIBRATION)
        lost.append(found["measured"]["held_out"]["divergence"])
    assert lost[0] < 0.7 * lost[1]


def test_biases_make_up_for_the_mean(source, tmp_path, memo):
    """The package that is written holds other biases of the same type, and no other constant is touched."""
    apply(source, options(assignment=dict.fromkeys(NAMES, 4)), memo, tmp_path / "ours.mlpackage", CALIBRATION)
    before, after = weights_by_coremltools(source), weights_by_coremltools(tmp_path / "ours.mlpackage")
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {"layer_bias", "head_bias"} < changed
    assert changed == {"layer_bias", "head_bias"} | {name.removeprefix("main/") for name in NAMES}
    assert after["layer_bias"].dtype == np.float16


def test_an_agreement_is_reached(source, tmp_path, memo):
    """The smallest assignment that agrees enough on the calibration windows is smaller than the whole network."""
    found = apply(source, options(argmax_agreement=0.9), memo, tmp_path / "ours.mlpackage", CALIBRATION)
    assert found["measured"]["calibration"]["argmax"] >= 0.9
    assert found["weight_bytes"]["after"] < 0.7 * found["weight_bytes"]["before"]


def test_variations_are_what_weights_are_fitted_to(source, tmp_path, memo):
    """Where recordings are varied, the variations decide about entries; the measurements are of the recordings."""
    varied = Calibration(
        lambda: examples(1), lambda: examples(2), OUTPUTS, {"varied": True}, varied=lambda: examples(3, 8)
    )
    pinned = options(assignment=dict.fromkeys(NAMES, 4))
    apply(source, pinned, memo, tmp_path / "plain.mlpackage", CALIBRATION)
    found = apply(source, pinned, memo, tmp_path / "ours.mlpackage", varied)
    assert content(tmp_path / "ours.mlpackage") != content(tmp_path / "plain.mlpackage")
    assert found["measured"]["calibration"]["windows"] == 4


def test_without_compensation_and_search_it_is_palettize(source, tmp_path, memo):
    """All weights at one width, nearest entries: the bytes of the plain pass, from no recordings."""
    pinned = options(assignment=dict.fromkeys(NAMES, 6), compensate=False)
    apply(source, pinned, memo, tmp_path / "a.mlpackage", None)
    palettize(source, PalettizeOptions(6, weight_threshold=LOW), memo, tmp_path / "b.mlpackage")
    assert content(tmp_path / "a.mlpackage") == content(tmp_path / "b.mlpackage")


def test_weights_of_16_bits_are_left(source, tmp_path, memo):
    """An assignment may leave weights whole; they come back bit for bit, and are listed."""
    assignment = dict.fromkeys(NAMES, 4) | {NAMES[2]: 16}
    found = apply(source, options(assignment=assignment), memo, tmp_path / "ours.mlpackage", CALIBRATION)
    assert [each["reason"] for each in found["left"]] == ["assigned its own precision"]
    assert np.array_equal(
        weights_by_coremltools(tmp_path / "ours.mlpackage")["head_weight"],
        weights_by_coremltools(source)["head_weight"],
    )


def test_what_is_measured_is_what_was_written(source, tmp_path, memo):
    """Running the finished package loses what the findings say."""
    import mil

    found = apply(source, options(size_mb=0.005), memo, tmp_path / "ours.mlpackage", CALIBRATION)
    held = list(examples(2))
    reference = run(mil.load(source), "main", held)
    again = loss(reference, run(mil.load(tmp_path / "ours.mlpackage"), "main", held), OUTPUTS)
    assert again.divergence == pytest.approx(found["measured"]["held_out"]["divergence"], rel=1e-3)
    assert again.argmax == pytest.approx(found["measured"]["held_out"]["argmax"], abs=1e-4)


def test_other_outputs_are_compared_by_their_squares(source):
    """Where an output means nothing that is known, the loss is the share of its square that is lost."""
    held = list(examples(2, 1))
    program = Program(package_with(read_package(source), {}))
    reference = run(program, "main", held)
    plain = (Tensor("out", ("frame", "batch", "feature"), (), "float16", "activation"),)
    worse = [{"out": each["out"] * 1.1} for each in reference]
    found = loss(reference, worse, plain)
    assert found.divergence == pytest.approx(0.01, rel=1e-3)
    assert found.argmax is None


def test_embeddings_are_compared_by_their_directions():
    """Length is no loss; a right angle is a loss of 1; two that are zero agree."""
    tensor = (Tensor("e", ("row", "dimension"), (2, 2), "float32", "embedding"),)
    reference = [{"e": np.array([[3.0, 0.0], [1.0, 1.0]])}]
    longer = [{"e": np.array([[6.0, 0.0], [2.0, 2.0]])}]
    turned = [{"e": np.array([[0.0, 1.0], [1.0, 1.0]])}]
    assert loss(reference, longer, tensor).divergence == pytest.approx(0, abs=1e-12)
    assert loss(reference, turned, tensor).divergence == pytest.approx(0.5)
    nothing = [{"e": np.zeros((1, 2))}]
    assert loss(nothing, nothing, tensor).divergence == 0


def test_an_example_that_falls_over_is_not_typical():
    """What three quarters of the examples lose on average hears nothing of the quarter that loses most."""
    tensor = (Tensor("x", ("row",), (2,), "float32", "activation"),)
    reference = [{"x": np.array([1.0, 0.0])}] * 5
    losses = (0.01, 0.03, 0.02, 4.0, 0.02)
    found = [{"x": np.array([1.0, np.sqrt(each)])} for each in losses]
    lost = loss(reference, found, tensor)
    assert lost.typical == pytest.approx(0.02)
    assert lost.divergence == pytest.approx(sum(losses) / 5)
    assert loss(reference[:1], found[:1], tensor).typical == pytest.approx(0.01)


def test_independent_events_are_compared_one_by_one():
    """The divergence of each event, and the share of events that stay on their side of one half; counts are no loss."""
    outputs = (
        Tensor("p", ("frame", "speaker"), (1, 4), "float32", "probability"),
        Tensor("n", ("batch",), (1,), "int32", "frames"),
        Tensor("absent", ("batch",), (1,), "float32", "embedding"),
    )
    reference = [{"p": np.array([[0.9, 0.1, 0.5, 1.0]]), "n": np.array([3])}]
    found = [{"p": np.array([[0.4, 0.1, 0.5, 1.0]]), "n": np.array([4])}]
    lost = loss(reference, found, outputs)
    assert lost.argmax == lost.worst == 0.75
    expected = 0.9 * np.log(0.9 / 0.4) + 0.1 * np.log(0.1 / 0.6)
    assert lost.divergence == pytest.approx(expected / 4)


def test_what_feeds_back_is_measured_over_whole_runs(source, tmp_path, memo):
    """A network driven over many calls is listened to in each of them, and its loss is that of the last output."""
    calls = []

    def twice(runner, inputs):
        first = runner(inputs)["out"]
        calls.append(len(first))
        louder = inputs["x"] + np.float16(0.1) * first[:, :, :WIDTH].astype(np.float16)
        return runner({"x": louder})

    driven = Calibration(lambda: examples(1), lambda: examples(2), OUTPUTS, {"seeds": [1, 2]}, twice)
    pinned = options(assignment=dict.fromkeys(NAMES, 4))
    once = apply(source, pinned, memo, tmp_path / "once.mlpackage", CALIBRATION)
    found = apply(source, pinned, memo, tmp_path / "ours.mlpackage", driven)
    assert calls
    assert found["measured"] != once["measured"]
    assert content(tmp_path / "ours.mlpackage") != content(tmp_path / "once.mlpackage")  # it heard other features


@pytest.mark.parametrize(
    ("chosen", "calibration", "message"),
    [
        ({"size_mb": 0.001}, CALIBRATION, r"size_mb: 0.001 is too small; the narrowest widths come to 0.00\d MB"),
        ({"size_mb": 1.0}, None, "mixed_palette measures on recordings, and there are none; give --audio DIR"),
        ({"assignment": {"main/nothing": 4}}, CALIBRATION, "`main/nothing` is no large weight of this program"),
        ({"assignment": {NAMES[0]: 4}}, CALIBRATION, "no width for `main/head_weight`; give 16 to leave it as it is"),
        ({"size_mb": 1.0, "widths": (3, 4)}, CALIBRATION, "3-bit palettes need iOS 18"),
    ],
)
def test_what_cannot_be_had_is_a_sentence(source, tmp_path, memo, chosen, calibration, message):
    """Sizes, names and widths that this program does not admit are refused, and nothing is written."""
    with pytest.raises(QuernError, match=message):
        apply(source, options(**chosen), memo, tmp_path / "ours.mlpackage", calibration)
    assert not (tmp_path / "ours.mlpackage").exists()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({}, "expected one of size_mb, argmax_agreement and assignment"),
        ({"size_mb": 1.0, "argmax_agreement": 0.9}, "expected one of size_mb"),
        ({"size_mb": 0.0}, "size_mb: expected more than 0, found 0.0"),
        ({"argmax_agreement": 1.1}, "argmax_agreement: expected a share above 0 and up to 1, found 1.1"),
        ({"size_mb": 1.0, "widths": (5,)}, "widths: expected some of 1, 2, 3, 4, 6, 8"),
        ({"size_mb": 1.0, "widths": ()}, "widths: expected some of"),
        ({"assignment": {"a": 5}}, "assignment.a: expected one of"),
        ({"assignment": {"a": True}}, "assignment.a: expected one of"),
        ({"size_mb": 1.0, "weight_threshold": -1}, "weight_threshold: expected 0 elements or more"),
    ],
)
def test_bad_options_are_sentences(chosen, message):
    """Options that mean nothing are refused where they are written."""
    with pytest.raises(ValueError, match=message):
        Options(**chosen)
