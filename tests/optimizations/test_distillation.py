"""Palettes that are fine-tuned by gradients."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
ct = pytest.importorskip("coremltools")
from coremltools.converters.mil import Builder as mb  # noqa: E402, N813
from coremltools.converters.mil.mil import types  # noqa: E402

import mil  # noqa: E402
from mil.package import read_package  # noqa: E402
from mil.program import Program  # noqa: E402
from optimizations.mixed.differentiable import differentiable  # noqa: E402
from optimizations.mixed.layers import Features  # noqa: E402
from optimizations.mixed.lost import by_features as lost_by_features  # noqa: E402
from optimizations.mixed.lost import by_output as lost_by_output  # noqa: E402
from optimizations.mixed.lost import lacking  # noqa: E402
from optimizations.mixed.outputs import loss, run  # noqa: E402
from optimizations.mixed.straight_through import Looked, Rounded  # noqa: E402
from optimizations.mixed_palette import Options, apply  # noqa: E402
from pipeline.types import Calibration, Example, QuernError, Tensor  # noqa: E402
from tests.optimizations.packages import DiskMemo, content, normal, saved, weights_by_coremltools  # noqa: E402

WIDTH, HIDDEN, CLASSES, ROWS = 24, 96, 4, 12
STEPS = 240
NAMES = ("main/first", "main/second")
PINNED = dict.fromkeys(NAMES, 2)
CLASSIFIED = (Tensor("out", ("frame", "batch", "class"), (ROWS, 1, CLASSES), "float16", "log probability"),)
EVENTS = (Tensor("out", ("frame", "batch", "speaker"), (ROWS, 1, CLASSES), "float16", "probability"),)


def network(path: Path, events: bool = False) -> Path:
    """Two wide layers and a head over a few classes, or over independent events."""

    @mb.program(input_specs=[mb.TensorSpec((ROWS, 1, WIDTH), dtype=types.fp16)], opset_version=ct.target.iOS17)
    def program(x):
        first = mb.const(val=normal(1, HIDDEN, WIDTH) * np.float16(4), name="first")
        y = mb.relu(x=mb.linear(x=x, weight=first, bias=mb.const(val=normal(2, HIDDEN), name="first_bias")))
        second = mb.const(val=normal(3, HIDDEN, HIDDEN) * np.float16(2), name="second")
        y = mb.relu(x=mb.linear(x=y, weight=second, bias=mb.const(val=normal(4, HIDDEN), name="second_bias")))
        scores = mb.linear(x=y, weight=normal(5, CLASSES, HIDDEN) * np.float16(2), bias=normal(6, CLASSES))
        return mb.sigmoid(x=scores, name="out") if events else mb.log(x=mb.softmax(x=scores, axis=-1), name="out")

    return saved(program, ct.target.iOS17, path)


def examples(seed: int, count: int = 7) -> Iterator[Example]:
    """Correlated features, as those of real layers are."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).standard_normal((6, WIDTH))
    for i in range(count):
        x = generator.standard_normal((ROWS, 1, 6)) @ mixing + 0.1 * generator.standard_normal((ROWS, 1, WIDTH))
        yield Example(f"r{seed}@{i}s", {"x": x.astype(np.float16)})


# Recordings of which there are new variations on every pass.
HEARD = Calibration(
    lambda: examples(1), lambda: examples(2), CLASSIFIED, {}, near=lambda number: examples(100 + number, 24)
)


def options(**chosen) -> Options:
    return Options(weight_threshold=1000, **{"assignment": PINNED, "distill": STEPS} | chosen)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return network(tmp_path_factory.mktemp("network") / "source.mlpackage")


def lost(found: dict, part: str = "held_out") -> float:
    """Return the divergence afterwards, as a share of that before."""
    return found["measured"][part]["divergence"] / found["measured_before"][part]["divergence"]


@pytest.fixture(scope="module")
def made(source, tmp_path_factory) -> tuple[Path, dict]:
    """A package that was fine-tuned, and what was found."""
    folder = tmp_path_factory.mktemp("made")
    found = apply(source, options(), DiskMemo(folder / "store"), folder / "ours.mlpackage", HEARD)
    return folder / "ours.mlpackage", found


def test_it_loses_less_on_recordings_that_it_has_not_heard(made):
    """From where compensation leaves it, the divergence on held-out inputs falls by a fifth or more."""
    _, found = made
    assert lost(found) < 0.8
    assert lost(found, "calibration") < 0.8
    assert found["decided"]["assignment"] == PINNED


def test_nearest_entries_are_fine_tuned_too(source, tmp_path, memo):
    """Compensation is no condition, and without it there is more to take back."""
    found = apply(source, options(compensate=False), memo, tmp_path / "ours.mlpackage", HEARD)
    assert lost(found) < 0.6


def test_what_is_written_is_what_was_measured(source, made):
    """The finished package holds palettes as wide as asked for, biases of their type, and loses what is said."""
    path, found = made
    before, after = weights_by_coremltools(source), weights_by_coremltools(path)
    for name in ("first", "second"):
        assert len(np.unique(after[name])) <= 4
        assert after[name].dtype == np.float16
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"first", "second", "first_bias", "second_bias"}
    held_out = list(examples(2))
    outputs = [run(mil.load(each), "main", held_out) for each in (source, path)]
    assert loss(*outputs, CLASSIFIED).divergence == pytest.approx(found["measured"]["held_out"]["divergence"], rel=1e-3)


def test_it_is_as_large_as_before(source, tmp_path, memo):
    """Fine-tuning changes values, and no size."""
    sizes = [
        apply(source, options(distill=steps), memo, tmp_path / f"{steps}.mlpackage", HEARD)["weight_bytes"]
        for steps in (0, 5)
    ]
    assert sizes[0] == sizes[1]


def test_it_is_made_once_and_always_the_same(source, made, tmp_path, memo):
    """Another store makes the same bytes anew, and a second build recalls them."""
    apply(source, options(), memo, tmp_path / "a.mlpackage", HEARD)
    count = memo.made
    apply(source, options(), memo, tmp_path / "b.mlpackage", HEARD)
    assert memo.made == count
    assert content(tmp_path / "a.mlpackage") == content(tmp_path / "b.mlpackage") == content(made[0])


def test_a_run_that_is_killed_goes_on_where_it_was(source, made, tmp_path, memo):
    """It comes to what an uninterrupted run comes to, and does not take the steps before the last checkpoint again."""
    told, heard = [], []

    def tell(text):
        told.append(text)
        if len(told) == 4:
            raise KeyboardInterrupt

    def near(number):
        heard.append(number)
        return HEARD.near(number)

    calibration = replace(HEARD, near=near, tell=tell)
    with pytest.raises(KeyboardInterrupt):
        apply(source, options(), memo, tmp_path / "ours.mlpackage", calibration)
    assert not (tmp_path / "ours.mlpackage").exists()
    last = heard[-1]
    heard.clear()
    apply(source, options(), memo, tmp_path / "ours.mlpackage", calibration)
    assert min(number for number in heard if number >= 12) > last  # the first lesson is heard again, to measure by
    assert content(tmp_path / "ours.mlpackage") == content(made[0])
    assert told[3] == told[4] == f"step 60 of {STEPS} of distillation"
    assert not list((tmp_path / "store").rglob("*checkpoint*"))


def test_no_steps_leave_palettes_as_they_are(source, tmp_path, memo):
    """No step gives the bytes of compensation alone, and the first one hardly changes anything."""
    found = apply(source, options(distill=0), memo, tmp_path / "none.mlpackage", HEARD)
    assert "measured_before" not in found
    apply(source, options(distill=1), memo, tmp_path / "one.mlpackage", HEARD)
    none, one = (weights_by_coremltools(tmp_path / f"{name}.mlpackage") for name in ("none", "one"))
    for name in ("first", "second"):
        assert np.mean(np.abs(none[name] - one[name]) > 0.01 * np.abs(none[name]).max()) < 0.01


def test_every_call_of_a_long_run_may_be_learned_from(source, tmp_path, memo):
    """A network that is driven over many calls is fine-tuned towards its answer to each, some of them drawn."""
    calls = []

    def driven(runner, inputs):
        for louder in range(1, 21):
            calls.append(runner({"x": (inputs["x"] * np.float16(louder / 20)).astype(np.float16)}))
        return calls[-1]

    calibration = replace(HEARD, run=driven, near=lambda number: examples(100 + number, 3))
    assert lost(apply(source, options(), memo, tmp_path / "ours.mlpackage", calibration)) < 0.9


def test_without_variations_it_learns_from_the_recordings(source, tmp_path, memo):
    """Where no variations are made, the same examples are passed over again and again."""
    found = apply(source, options(), memo, tmp_path / "ours.mlpackage", replace(HEARD, near=None))
    assert lost(found, "calibration") < 0.8


@pytest.mark.parametrize("unit", ["activation", "embedding"])
def test_other_outputs_are_learned_by_their_own_divergence(source, tmp_path, memo, unit):
    """Squares and directions, where an output is no probability."""
    outputs = (replace(CLASSIFIED[0], axes=("frame", "batch", "dimension"), unit=unit),)
    found = apply(source, options(), memo, tmp_path / "ours.mlpackage", replace(HEARD, outputs=outputs))
    assert lost(found) < 0.9


def test_probabilities_of_events_are_learned(tmp_path, memo):
    """The divergence of each event by itself."""
    path = network(tmp_path / "source.mlpackage", events=True)
    found = apply(path, options(), memo, tmp_path / "ours.mlpackage", replace(HEARD, outputs=EVENTS))
    assert lost(found) < 0.8


def test_threads_are_given_back(source, tmp_path, memo):
    """Calls are computed by one thread each; afterwards torch has as many as before."""
    count = torch.get_num_threads()
    apply(source, options(distill=1), memo, tmp_path / "ours.mlpackage", HEARD)
    assert torch.get_num_threads() == count


def test_constants_become_inputs(source):
    """The function gives the same outputs with its constants passed in, and gradients reach them."""
    package = read_package(source)
    lifted = differentiable(package, "main", {"second", "first_bias", "none of these"})
    assert lifted.lifted == {"second", "first_bias"}
    weights = weights_by_coremltools(source)
    passed = {name: torch.tensor(weights[name]).float().requires_grad_() for name in lifted.lifted}
    inputs = next(examples(1)).inputs
    found = lifted.run(lifted.entered(inputs), passed, ())
    expected = Program(package).run(inputs, "float32")
    assert np.allclose(lifted.released(found)["out"], expected["out"], rtol=0, atol=1e-4)
    gradients = torch.autograd.grad(found["out"][:, :, 0].sum(), list(passed.values()))
    assert all(bool(each.abs().sum() > 0) for each in gradients)


def test_undecided_frames_are_to_stay_decided_as_they_were():
    """Of two frames as far from the teacher's, the one that is decided otherwise loses more; so for events."""
    teacher = torch.log_softmax(torch.tensor([[0.01, 0.0, -3.0]]), -1)
    same, other, far = (
        torch.log_softmax(torch.tensor([each], requires_grad=True), -1)
        for each in ([0.03, 0.0, -3.0], [-0.01, 0.0, -3.0], [-4.0, 0.0, -3.0])
    )
    losses = [float(lost_by_output(CLASSIFIED[0], teacher, each, 0.03)) for each in (same, other)]
    assert losses[0] < losses[1] == pytest.approx(0.06, rel=0.01)
    assert lacking(torch.tensor([0.06, 0.05, 0.0, -0.5])).tolist() == pytest.approx([0, 0, 0.05, 0.15])
    assert float(lost_by_output(CLASSIFIED[0], teacher, far, 0.03)) < 0.3
    event, left = torch.tensor([[0.51]]), [torch.tensor([[p]]) for p in (0.52, 0.49)]
    assert lost_by_output(EVENTS[0], event, left[0], 0.03) < lost_by_output(EVENTS[0], event, left[1], 0.03)


def test_features_that_are_far_off_count_less():
    """At one place all channels count together, and a place that fell over no more than it must."""
    features = Features("y", "input", 0, 4)
    teacher = torch.ones(3, 4)
    near, far = torch.ones(3, 4), torch.ones(3, 4)
    near[0] += 0.1
    far[0] += 10.0
    small, large = (float(lost_by_features(features, teacher, each)) for each in (near, far))
    assert small == pytest.approx(0.5 * 0.1 * np.log1p(0.01 / 0.1) / 3, rel=1e-4)
    assert large == pytest.approx(0.5 * 0.1 * np.log1p(100 / 0.1) / 3, rel=1e-4)


def test_entries_take_the_gradients_of_what_they_stand_for():
    """Latent values take the gradient that passes; each entry the sum over its values, after rounding to its type."""
    entries = torch.tensor([0.1, 0.2, 0.4], requires_grad=True)
    latent = torch.tensor([[0.0, 0.16], [0.29, 9.0]], requires_grad=True)
    found = Looked.apply(latent, entries, torch.float16)
    half = entries.detach().half().float()
    assert torch.equal(found, half[torch.tensor([[0, 1], [1, 2]])])
    found.backward(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert latent.grad.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert entries.grad.tolist() == [1.0, 5.0, 4.0]
    values = torch.tensor([0.1], requires_grad=True)
    Rounded.apply(values, torch.float16).backward(torch.tensor([2.0]))
    assert values.grad.tolist() == [2.0]


def test_a_program_without_gradients_is_refused(tmp_path, memo):
    """Where nothing of the output depends on a weight smoothly, one sentence says so."""

    @mb.program(input_specs=[mb.TensorSpec((4, 64), dtype=types.fp16)], opset_version=ct.target.iOS17)
    def program(x):
        y = mb.linear(x=x, weight=mb.const(val=normal(1, 40, 64), name="w"), bias=normal(2, 40))
        return mb.cast(x=mb.cast(x=y, dtype="int32"), dtype="fp16", name="out")

    path = saved(program, ct.target.iOS17, tmp_path / "source.mlpackage")
    inputs = {"x": np.ones((4, 64), np.float16)}
    calibration = Calibration(
        lambda: iter([Example("r@0s", inputs)]),
        lambda: iter(()),
        (Tensor("out", ("frame", "feature"), (4, 40), "float16", "activation"),),
        {},
    )
    with pytest.raises(QuernError, match="distill: cannot learn by gradients through this program"):
        apply(path, options(assignment={"main/w": 4}), memo, tmp_path / "ours.mlpackage", calibration)
    assert not (tmp_path / "ours.mlpackage").exists()


def test_weights_that_are_left_whole_need_no_gradients(source, tmp_path, memo):
    """Where no weight has a palette, there is nothing to learn."""
    whole = options(assignment=dict.fromkeys(NAMES, 16))
    found = apply(source, whole, memo, tmp_path / "ours.mlpackage", HEARD)
    assert found["measured"]["held_out"]["divergence"] == 0


def test_gradients_that_are_no_numbers_are_refused(tmp_path, memo):
    """A class that cannot be, whose logarithm is −∞, would make every weight nan; one sentence says so instead."""

    @mb.program(input_specs=[mb.TensorSpec((ROWS, 1, WIDTH), dtype=types.fp16)], opset_version=ct.target.iOS17)
    def program(x):
        first = mb.const(val=normal(1, HIDDEN, WIDTH) * np.float16(4), name="first")
        y = mb.relu(x=mb.linear(x=x, weight=first, bias=normal(2, HIDDEN)))
        scores = mb.linear(x=y, weight=normal(5, CLASSES, HIDDEN) * np.float16(2), bias=normal(6, CLASSES))
        likely = np.array([1, 1, 1, 0], np.float16)
        return mb.log(x=mb.mul(x=mb.softmax(x=scores, axis=-1), y=likely), epsilon=0.0, name="out")

    path = saved(program, ct.target.iOS17, tmp_path / "source.mlpackage")
    with pytest.raises(QuernError, match="cannot learn by gradients through this program: a gradient is not finite"):
        apply(path, options(assignment={"main/first": 2}), memo, tmp_path / "ours.mlpackage", HEARD)
    assert not (tmp_path / "ours.mlpackage").exists()


def test_a_program_that_keeps_states_is_refused(tmp_path, memo):
    """Its answer to a call depends on the calls before, which are not learned from together."""

    @mb.program(
        input_specs=[mb.TensorSpec((ROWS, 1, WIDTH), types.fp16), mb.StateTensorSpec((ROWS, 1, WIDTH), types.fp16)],
        opset_version=ct.target.iOS18,
    )
    def program(x, total):
        kept = mb.coreml_update_state(state=total, value=mb.add(x=mb.read_state(input=total), y=x))
        first = mb.const(val=normal(1, CLASSES * 12, WIDTH), name="first")
        return mb.linear(x=kept, weight=first, bias=normal(2, CLASSES * 12), name="out")

    path = saved(program, ct.target.iOS18, tmp_path / "source.mlpackage")
    outputs = (Tensor("out", ("frame", "batch", "feature"), (ROWS, 1, CLASSES * 12), "float16", "activation"),)
    with pytest.raises(QuernError, match="keeps states from call to call"):
        apply(
            path,
            options(assignment={"main/first": 4}),
            memo,
            tmp_path / "ours.mlpackage",
            replace(HEARD, outputs=outputs),
        )


def test_recordings_too_short_are_refused(source, tmp_path, memo):
    """No example at all is said at once, rather than waited for without end."""
    silent = replace(HEARD, near=lambda number: iter(()))
    with pytest.raises(QuernError, match="hold no example"):
        apply(source, options(), memo, tmp_path / "ours.mlpackage", silent)


def test_recordings_are_asked_for(source, tmp_path, memo):
    """Also where widths are given and nothing is compensated."""
    with pytest.raises(QuernError, match="there are none; give --audio DIR"):
        apply(source, options(compensate=False), memo, tmp_path / "ours.mlpackage", None)


def test_steps_are_counted(source):
    with pytest.raises(ValueError, match="distill: expected a number of steps, found -1"):
        options(distill=-1)
