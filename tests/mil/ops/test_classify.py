"""The operation that ends a classifier agrees with onnxruntime and numpy."""

from typing import Any

import numpy as np
import pytest
import torch

from mil.errors import MilError
from mil.ops import classify
from tests.mil.ops.opinions import (
    Opinion,
    Row,
    agree,
    assert_covered,
    declared_operations,
    numpy,
    onnxruntime_run,
)

OPERATIONS = declared_operations("classify")


def plain(probabilities: np.ndarray, classes: list) -> tuple[Any, dict]:
    pairs = dict(zip(classes, [float(p) for p in probabilities.flat], strict=True))
    return max(pairs, key=lambda label: pairs[label]), pairs


def zipped(probabilities: np.ndarray, classes: list) -> tuple[Any, dict]:
    row = probabilities.reshape(1, -1)
    labels = {"classlabels_strings" if isinstance(classes[0], str) else "classlabels_int64s": classes}
    ((pairs,),) = onnxruntime_run("ZipMap", [row], "ai.onnx.ml", **labels)
    (place,) = onnxruntime_run("ArgMax", [row], axis=1, keepdims=0)
    return classes[place.item()], pairs


OPINIONS = {"classify": (numpy(plain), Opinion("onnxruntime", zipped))}
ROWS = (
    Row("classify", {"probabilities": np.float32([0.1, 0.7, 0.2]), "classes": ["a", "b", "c"]}, "names"),
    Row("classify", {"probabilities": np.float32([[[0.9]], [[0.1]]]), "classes": [7, -3]}, "numbers"),
    Row("classify", {"probabilities": np.float32([0.5, 0.5, 0]), "classes": ["a", "b", "c"]}, "a tie"),
    Row("classify", {"probabilities": np.float32([1]), "classes": ["only"]}, "one class"),
    Row("classify", {"probabilities": np.float32([-np.inf, 65504]), "classes": [0, 1]}, "extremes"),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operation_agrees_with_other_opinions(row: Row) -> None:
    """The label and the dictionary of probabilities are what onnxruntime and plain Python make of them."""
    agree(classify, OPINIONS, row)


def test_every_operation_has_rows_with_two_opinions() -> None:
    """classify is declared as coremltools declares it, and judged by two opinions."""
    assert_covered(classify, OPERATIONS, OPINIONS, ROWS)


@pytest.mark.parametrize(("count", "classes"), [(2, ["a"]), (0, []), (1, ["a", "b"])])
def test_wrong_number_of_classes_is_refused(count: int, classes: list[str]) -> None:
    """A class without a probability, a probability without a class, or no class at all is an error with both counts."""
    with pytest.raises(MilError, match=f"{count} probabilities for {len(classes)} classes"):
        classify.classify(torch.zeros(count), classes)
