"""The pass that replaces single slices by exact equivalents."""

import numpy as np
import pytest

import mil
from optimizations.replace_slices import Options, apply

ct = pytest.importorskip("coremltools")
from coremltools.converters.mil import Builder as mb  # noqa: E402, N813
from coremltools.converters.mil.mil import types  # noqa: E402

from tests.optimizations.test_fold_frame_slices import build, cut, kinds  # noqa: E402


def replaced(tmp_path, source, options: Options | None = None):
    """Apply the pass, check that the program computes the same bits after it, and return findings and operations."""
    found = apply(source, options or Options(), None, tmp_path / "replaced.mlpackage")
    before, after = mil.load(source), mil.load(tmp_path / "replaced.mlpackage")
    kind = before.inputs()[0].type
    values = 100 * np.random.default_rng(0).standard_normal(kind.known_shape())
    x = {"x": values.astype(np.int32 if kind.element.name == "int32" else np.float32)}
    for expected, output in zip(before.run(x).values(), after.run(x).values(), strict=True):
        np.testing.assert_array_equal(expected, output)
    return found, kinds(tmp_path / "replaced.mlpackage")


@pytest.mark.parametrize("dtype", [types.fp32, types.fp16])
@pytest.mark.parametrize(
    ("axis", "begin", "length"), [(0, 0, 1), (0, 2, 1), (1, 0, 19), (1, 1, 19), (1, 5, 7), (2, 3, 4), (-1, 0, 7)]
)
def test_a_part_of_one_axis_is_a_convolution(tmp_path, axis, begin, length, dtype):
    """Whichever axis, from whichever place."""
    source = build(
        tmp_path / "source.mlpackage", (3, 20, 8), lambda x: mb.relu(x=cut(x, begin, length, axis % 3)), dtype
    )
    found, left = replaced(tmp_path, source)
    assert "slice_by_index" not in left
    assert "conv" in left
    assert [each["now"] for each in found["replaced"]] == ["conv"]
    assert found["counts"]["after"]["slices"] == 0


def test_every_third_element(tmp_path):
    """The stride of a slice is that of the convolution."""
    source = build(
        tmp_path / "source.mlpackage",
        (40,),
        lambda x: mb.relu(x=mb.slice_by_index(x=x, begin=[4], end=[-3], stride=[3])),
    )
    _, left = replaced(tmp_path, source)
    assert "conv" in left
    assert "slice_by_index" not in left


def test_a_row_loses_its_axis(tmp_path):
    """`x[1]`, with a mask that drops the axis."""
    source = build(
        tmp_path / "source.mlpackage",
        (3, 50),
        lambda x: mb.relu(
            x=mb.slice_by_index(x=x, begin=[1, 0], end=[2, 50], end_mask=[False, True], squeeze_mask=[True, False])
        ),
    )
    _, left = replaced(tmp_path, source)
    assert "conv" in left
    assert "slice_by_index" not in left


def test_an_axis_of_one_element_is_dropped_by_a_reshape(tmp_path):
    """Nothing is cut, so nothing is computed."""
    source = build(
        tmp_path / "source.mlpackage",
        (3, 1, 50),
        lambda x: mb.relu(
            x=mb.slice_by_index(
                x=x, begin=[0, 0, 0], end=[3, 1, 50], begin_mask=[True, False, True], end_mask=[True, False, True],
                squeeze_mask=[False, True, False],
            )
        ),
    )  # fmt: skip
    found, left = replaced(tmp_path, source)
    assert left == ["reshape", "relu"]
    assert found["replaced"][0]["now"] == "reshape"


@pytest.mark.parametrize(
    ("make", "dtype", "reason"),
    [
        (lambda x: mb.slice_by_index(x=x, begin=[0, 0], end=[5, 15]), types.fp32, "it cuts 2 axes, not one"),
        (lambda x: cut(x, 0, 5), types.int32, "is of int32, which cannot be convolved"),
        (lambda x: cut(x, 0, 5, 1), types.fp32, "a kernel of 76 taps is longer than 64"),
        (
            lambda x: mb.slice_by_index(x=x, begin=[9, 0], end=[0, 80], stride=[-1, 1]),
            types.fp32,
            "it runs backwards, with a stride of -1",
        ),
    ],
)
def test_other_slices_stay_with_a_reason(tmp_path, make, dtype, reason):
    """And the program is as it was."""
    source = build(tmp_path / "source.mlpackage", (10, 80), lambda x: mb.mul(x=make(x), y=make(x)), dtype)
    found, left = replaced(tmp_path, source)
    assert not found["replaced"]
    assert reason in found["left"][0]["reason"]
    assert left == kinds(source)


def test_a_longer_kernel_can_be_allowed(tmp_path):
    """`most_taps` is the user's choice."""
    source = build(tmp_path / "source.mlpackage", (10, 80), lambda x: mb.relu(x=cut(x, 0, 5, 1)))
    _, left = replaced(tmp_path, source, Options(most_taps=76))
    assert "slice_by_index" not in left
