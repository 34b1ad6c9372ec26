"""Embeddings are compared by direction, worst case included."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.tensors import write_tensors
from pipeline.types import Measurement, Subject, Tensor
from verify.embedding import MEASURES, measure

EMBEDDING = Tensor("embedding", ("speaker", "dimension"), (3, 4), "float32", "embedding")
TRUTH = np.array([[1, 0, 0, 0], [0, 2, 0, 0], [3, 0, 4, 0]], np.float32)


def measured(folder: Path, **rungs: np.ndarray | str) -> dict[str, Measurement]:
    """Return the measurements of a ladder whose rungs are given; the others are the truth."""
    found: dict[str, Path | str] = {}
    for name in ("upstream", "network", "float32", "declared"):
        value = rungs.get(name, TRUTH)
        found[name] = value if isinstance(value, str) else folder / f"{name}.safetensors"
        if not isinstance(value, str):
            write_tensors({"talk@0s/embedding": value}, folder / f"{name}.safetensors")
    return {m.name: m for m in measure(Subject(inputs=(), outputs=(EMBEDDING,), rungs=found))}


def test_the_same_embeddings_agree_entirely(tmp_path: Path) -> None:
    """Every difference is zero and every cosine one; nothing that is declared goes unmeasured."""
    found = measured(tmp_path)
    assert set(found) == set(MEASURES)
    assert [found[name].value for name in ("rewrite", "convert", "precision", "max_difference")] == [0, 0, 0, 0]
    assert found["cosine_worst"].value == pytest.approx(1)


def test_one_turned_embedding_is_the_worst_case(tmp_path: Path) -> None:
    """An average hides it, the worst case names its row."""
    turned = TRUTH.copy()
    turned[1] = [2, 0, 0, 0]
    found = measured(tmp_path, declared=turned)
    assert found["cosine_worst"].value == pytest.approx(0)
    assert found["cosine_worst"].note == "talk@0s[1]"
    assert found["cosine"].value == pytest.approx(2 / 3)


def test_a_longer_embedding_of_the_same_direction_has_a_difference_but_the_same_cosine(tmp_path: Path) -> None:
    """Differences are shares of the largest norm, five here."""
    found = measured(tmp_path, declared=2 * TRUTH)
    assert found["cosine_worst"].value == pytest.approx(1)
    assert found["precision"].value == pytest.approx(4 / 5)


@pytest.mark.parametrize(
    ("declared", "expected"), [(np.zeros((3, 4), np.float32), 0.0), (np.full((3, 4), np.nan), None)]
)
def test_no_direction_is_no_agreement(tmp_path: Path, declared: np.ndarray, expected: float | None) -> None:
    """Zeros agree with nothing but zeros, and what is no number is no cosine."""
    value = measured(tmp_path, declared=declared.astype(np.float32))["cosine_worst"].value
    assert value is not None
    assert np.isnan(value) if expected is None else value == expected


def test_without_a_rung_to_compare_with_nothing_is_measured(tmp_path: Path) -> None:
    """The reason is passed on."""
    found = measured(tmp_path, declared="no recordings")
    assert {m.value for m in found.values()} >= {None}
    assert found["cosine"].note == "no recordings"
