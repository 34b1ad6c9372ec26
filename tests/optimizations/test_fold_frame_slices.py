"""The pass that folds frames into a convolution, held against the interpreter: equal values, and reasons to stay."""

from collections.abc import Callable

import numpy as np
import pytest

import mil
from mil.package import read_package
from optimizations.fold_frame_slices import Options, apply
from pipeline.types import QuernError

ct = pytest.importorskip("coremltools")
from coremltools.converters.mil import Builder as mb  # noqa: E402, N813
from coremltools.converters.mil.mil import types  # noqa: E402

from tests.optimizations.packages import content, operations, saved  # noqa: E402

FEW = Options(fewest=2)


def build(path, shape, make: Callable, dtype=types.fp32, target=ct.target.iOS16):
    """Save a program of one input, `make` of it, as it is written here: nothing is optimized."""

    @mb.program(input_specs=[mb.TensorSpec(shape, dtype=dtype)], opset_version=target)
    def program(x):
        return make(x)

    precision = ct.precision.FLOAT16 if dtype == types.fp16 else ct.precision.FLOAT32
    return saved(program, target, path, precision)


def cut(x, begin, length, axis=0, **more):
    """Return x[begin : begin + length] along an axis."""
    rank = len(x.shape)
    whole = [place != axis for place in range(rank)]
    first, last = [0] * rank, list(x.shape)
    first[axis], last[axis] = begin, begin + length
    return mb.slice_by_index(x=x, begin=first, end=last, begin_mask=whole, end_mask=whole, **more)


def cuts(x, count, length, stride, axis=0, begin=0):
    return [cut(x, begin + place * stride, length, axis) for place in range(count)]


def kinds(path) -> list[str]:
    return [each.type for each in operations(read_package(path)).values()]


def folded(tmp_path, source, options=FEW):
    """Apply the pass, check that a program computes the same bits after it, and return findings and operations."""
    found = apply(source, options, None, tmp_path / "folded.mlpackage")
    before, after = mil.load(source), mil.load(tmp_path / "folded.mlpackage")
    generator = np.random.default_rng(0)
    inputs = {each.name: generator.standard_normal(each.type.shape).astype(np.float32) for each in before.inputs()}
    expected, outputs = before.run(inputs), after.run(inputs)
    assert expected.keys() == outputs.keys()
    for name, values in expected.items():
        assert values.shape == outputs[name].shape
        np.testing.assert_array_equal(values, outputs[name])
    return found, kinds(tmp_path / "folded.mlpackage")


@pytest.mark.parametrize("dtype", [types.fp32, types.fp16])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_stacked_frames_become_one_convolution(tmp_path, axis, dtype):
    """Overlapping frames of a waveform, one row or one column each."""
    source = build(
        tmp_path / "source.mlpackage", (100,), lambda x: mb.stack(values=cuts(x, 7, 40, 10), axis=axis, name="y"), dtype
    )
    found, left = folded(tmp_path, source)
    assert "slice_by_index" not in left
    assert left.count("conv") == 1
    assert found["folded"][0] | {"name": ""} == {
        "function": "main", "name": "", "source": "x", "slices": 7, "length": 40, "stride": 10, "kernel": [40, 40],
    }  # fmt: skip
    assert found["counts"]["before"]["slices"] == 7
    assert found["counts"]["after"]["slices"] == 0


@pytest.mark.parametrize(
    ("length", "stride", "begin"),
    [(20, 20, 0), (10, 15, 0), (30, 7, 0), (20, 5, 13), (1, 3, 2), (90, 1, 1)],
    ids=["neighbours", "gaps", "overlap", "late", "single elements", "nearly whole"],
)
def test_any_stride_and_begin(tmp_path, length, stride, begin):
    """Frames may leave gaps, begin late and end early."""
    source = build(
        tmp_path / "source.mlpackage",
        (100,),
        lambda x: mb.stack(values=cuts(x, 5, length, stride, begin=begin), axis=0, name="y"),
    )
    found, _ = folded(tmp_path, source)
    assert found["counts"]["after"]["slices"] <= 1
    assert len(found["folded"]) == 1


def test_frames_of_a_small_part_are_cut_out_first(tmp_path):
    """One slice stays where a kernel over the whole axis would be zeros for the most part."""
    source = build(
        tmp_path / "source.mlpackage",
        (4000,),
        lambda x: mb.stack(values=cuts(x, 9, 16, 8, begin=1000), axis=0, name="y"),
    )
    found, left = folded(tmp_path, source)
    assert left.count("slice_by_index") == 1
    assert found["folded"][0]["kernel"] == [16, 16]


@pytest.mark.parametrize("group", [0, 1, 2, 3])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axes_around_that_of_the_frames_stay_in_place(tmp_path, axis, group):
    """Frames of any axis of a tensor of rank 3, stacked along any other."""
    source = build(
        tmp_path / "source.mlpackage",
        (12, 13, 14),
        lambda x: mb.stack(values=cuts(x, 4, 5, 2, axis), axis=group, name="y"),
    )
    _, left = folded(tmp_path, source)
    assert "slice_by_index" not in left


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concatenated_frames(tmp_path, axis):
    """A concat along the axis of the frames, or along another."""
    source = build(
        tmp_path / "source.mlpackage", (3, 20, 4), lambda x: mb.concat(values=cuts(x, 6, 5, 3, 1), axis=axis, name="y")
    )
    _, left = folded(tmp_path, source)
    assert "slice_by_index" not in left
    assert "concat" not in left


def test_concatenated_frames_of_rank_1(tmp_path):
    """Frames in a row."""
    source = build(
        tmp_path / "source.mlpackage", (50,), lambda x: mb.concat(values=cuts(x, 6, 10, 8), axis=0, name="y")
    )
    _, left = folded(tmp_path, source)
    assert "slice_by_index" not in left


def test_views_between_slice_and_group_are_seen_through(tmp_path):
    """expand_dims, squeeze and reshape move nothing."""

    def make(x):
        parts = [mb.reshape(x=mb.expand_dims(x=each, axes=[0]), shape=[4, 5]) for each in cuts(x, 6, 20, 10)]
        return mb.stack(values=parts, axis=1, name="y")

    _, left = folded(tmp_path, build(tmp_path / "source.mlpackage", (80,), make))
    assert "slice_by_index" not in left
    assert "expand_dims" not in left


def test_every_second_element(tmp_path):
    """A stride within the frames becomes distance between the ones of the kernel."""

    def make(x):
        parts = [mb.slice_by_index(x=x, begin=[b], end=[b + 21], stride=[2]) for b in range(0, 60, 10)]
        return mb.stack(values=parts, axis=0, name="y")

    found, left = folded(tmp_path, build(tmp_path / "source.mlpackage", (80,), make))
    assert "slice_by_index" not in left
    assert found["folded"][0]["length"] == 11


def test_several_groups_fold_on_their_own(tmp_path):
    """Two framings of one waveform, and a slice that belongs to neither."""

    def make(x):
        short = mb.stack(values=cuts(x, 19, 10, 5), axis=0)
        long = mb.stack(values=cuts(x, 9, 20, 10), axis=1)
        return mb.abs(x=short), mb.relu(x=long), mb.relu(x=cut(x, 3, 50))

    found, left = folded(tmp_path, build(tmp_path / "source.mlpackage", (100,), make))
    assert [each["slices"] for each in found["folded"]] == [19, 9]
    assert left.count("slice_by_index") == 1


def test_slices_in_nested_blocks_fold_there(tmp_path):
    """Of a tensor from outside the branch."""

    def make(x):
        positive = mb.greater(x=mb.reduce_sum(x=x, keep_dims=False), y=np.float32(0))
        return mb.cond(
            pred=positive,
            _true_fn=lambda: mb.stack(values=cuts(x, 11, 10, 5), axis=0),
            _false_fn=lambda: mb.stack(values=cuts(mb.relu(x=x), 11, 10, 5), axis=0),
            name="y",
        )

    source = build(tmp_path / "source.mlpackage", (60,), make)
    found, _ = folded(tmp_path, source)
    assert [each["slices"] for each in found["folded"]] == [11, 11]
    assert found["counts"]["after"]["slices"] == 0
    program = mil.load(tmp_path / "folded.mlpackage")
    for sign in (-1, 1):
        x = sign * np.arange(1, 61, dtype=np.float32)
        (expected,), (output,) = mil.load(source).run({"x": x}).values(), program.run({"x": x}).values()
        np.testing.assert_array_equal(expected, output)


def test_coremltools_loads_what_is_written(tmp_path):
    """Names, types and constants are those of a program that coremltools itself could have made."""
    from tests.optimizations.packages import weights_by_coremltools

    source = build(
        tmp_path / "source.mlpackage", (100,), lambda x: mb.stack(values=cuts(x, 7, 40, 10), axis=0, name="y")
    )
    apply(source, FEW, None, tmp_path / "folded.mlpackage")
    kernel = weights_by_coremltools(tmp_path / "folded.mlpackage")["y_conv_weight"]
    np.testing.assert_array_equal(kernel, np.eye(40, dtype=np.float32)[:, None])


def test_equal_packages_give_equal_bytes(tmp_path):
    """Nothing of the machine or the moment is in the result."""
    source = build(
        tmp_path / "source.mlpackage", (100,), lambda x: mb.stack(values=cuts(x, 7, 40, 10), axis=0, name="y")
    )
    for name in ("one", "two"):
        apply(source, FEW, None, tmp_path / f"{name}.mlpackage")
    assert content(tmp_path / "one.mlpackage") == content(tmp_path / "two.mlpackage")


def _unequal_strides(x):
    return mb.stack(values=[cut(x, begin, 20) for begin in (0, 10, 25)], axis=0)


def _unequal_lengths(x):
    return mb.concat(values=[cut(x, 0, 20), cut(x, 10, 20), cut(x, 20, 21)], axis=0)


def _used_elsewhere(x):
    parts = cuts(x, 3, 20, 10)
    return mb.stack(values=parts, axis=0), mb.relu(x=parts[1])


def _different_sources(x):
    return mb.stack(values=[*cuts(x, 2, 20, 10), cut(mb.relu(x=x), 20, 20)], axis=0)


def _another_value(x):
    return mb.stack(values=[*cuts(x, 3, 20, 10), mb.relu(x=cut(x, 30, 20))], axis=0)


def _backwards(x):
    return mb.stack(values=cuts(x, 3, 20, 10)[::-1], axis=0)


def _the_same(x):
    return mb.stack(values=cuts(x, 3, 20, 0), axis=0)


def _reversed(x):
    return mb.stack(values=[mb.slice_by_index(x=x, begin=[b + 9], end=[b], stride=[-1]) for b in (0, 9)], axis=0)


def _two_axes(x):
    x = mb.reshape(x=x, shape=[10, 10])
    return mb.stack(values=[mb.slice_by_index(x=x, begin=[b, b], end=[b + 4, b + 4]) for b in range(3)], axis=0)


def _different_axes(x):
    x = mb.reshape(x=x, shape=[10, 10])
    parts = [mb.reshape(x=cut(x, 2, 4, axis), shape=[40]) for axis in (0, 1)]
    return mb.stack(values=parts, axis=0)


def _different_views(x):
    x = mb.reshape(x=x, shape=[10, 10])
    parts = [mb.reshape(x=part, shape=shape) for part, shape in zip(cuts(x, 2, 2, 2), ([4, 5], [2, 10]), strict=True)]
    return mb.concat(values=[parts[0], mb.reshape(x=parts[1], shape=[4, 5])], axis=0), parts[0]


def _computed(x):
    begin = mb.cast(x=mb.slice_by_index(x=x, begin=[0], end=[1]), dtype="int32")
    parts = [mb.reshape(x=mb.slice_by_index(x=x, begin=begin, end=[end]), shape=[-1]) for end in (50, 60)]
    return mb.concat(values=parts, axis=0)


def _interleaved(x):
    return mb.concat(values=cuts(x, 3, 20, 10), axis=0, interleave=True)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_unequal_strides, "begin at no constant stride, but 10, 15 apart"),
        (_unequal_lengths, "differ in length: 20, 21"),
        (_used_elsewhere, "is used more than once"),
        (_different_sources, "are of different tensors"),
        (_another_value, "1 of 4 values are no slices, such as value 3"),
        (_backwards, "do not run forwards: each begins -10 after"),
        (_the_same, "is used more than once"),
        (_reversed, "it runs backwards, with a stride of -1"),
        (_two_axes, "cuts 2 axes, not one"),
        (_different_axes, "differ in axis: 0, 1"),
        (_different_views, "is used more than once"),
        (_computed, "its `begin` is computed"),
        (_interleaved, "it interleaves its values"),
    ],
)
def test_what_is_no_framing_stays_with_a_reason(tmp_path, make, reason):
    """Nothing is changed, and the findings say why."""
    source = build(tmp_path / "source.mlpackage", (100,), make)
    found = apply(source, FEW, None, tmp_path / "left.mlpackage")
    assert not found.get("folded")
    assert reason in found["left"][0]["reason"]
    assert kinds(tmp_path / "left.mlpackage") == kinds(source)


def test_an_end_beyond_the_axis_is_left(tmp_path):
    """A last frame that the axis is too short for is not a frame."""

    def make(x):
        parts = [mb.slice_by_index(x=x, begin=[b], end=[b + 40]) for b in (0, 30, 60, 90)]
        return mb.concat(values=parts, axis=0)

    found = apply(build(tmp_path / "source.mlpackage", (100,), make), FEW, None, tmp_path / "left.mlpackage")
    assert "takes 90 to 130 of the 100 elements of axis 0" in found["left"][0]["reason"]


def test_integers_are_left(tmp_path):
    """Core ML convolves floating-point tensors only."""
    source = build(
        tmp_path / "source.mlpackage", (100,), lambda x: mb.stack(values=cuts(x, 4, 20, 10), axis=0), types.int32
    )
    found = apply(source, FEW, None, tmp_path / "left.mlpackage")
    assert "is of int32, which cannot be convolved" in found["left"][0]["reason"]


def test_small_groups_and_large_kernels_are_left(tmp_path):
    """Both are the user's choice."""
    source = build(tmp_path / "source.mlpackage", (100,), lambda x: mb.stack(values=cuts(x, 7, 40, 10), axis=0))
    found = apply(source, Options(), None, tmp_path / "few.mlpackage")
    assert found["left"][0]["reason"] == "only 7 slices, fewer than 8"
    found = apply(source, Options(fewest=2, largest_kernel=1599), None, tmp_path / "large.mlpackage")
    assert found["left"][0]["reason"] == "a kernel of 40 × 40 has more than 1599 elements"


def test_other_models_are_refused(tmp_path):
    """A model without an ML program has no operations."""
    from mil.schema import Model_pb2

    spec = Model_pb2.Model(specificationVersion=1)
    spec.identity.SetInParent()
    (tmp_path / "model.mlmodel").write_bytes(spec.SerializeToString())
    with pytest.raises(QuernError, match="holds no ML program"):
        apply(tmp_path / "model.mlmodel", Options(), None, tmp_path / "out.mlpackage")


@pytest.mark.parametrize("wrong", [{"fewest": 1}, {"largest_kernel": 0}])
def test_options_that_mean_nothing_are_refused(wrong):
    """Before anything is read."""
    with pytest.raises(ValueError, match="expected at least"):
        Options(**wrong)
