"""Variants that are built only where somebody asks for them, on a small Sortformer for ONNX."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import read_matrix
from pipeline.select import by_patterns
from pipeline.types import QuernError
from tests.converters.sortformers import configuration, saved, tiny_state, write_nemo
from tests.pipeline.conftest import Ran

MATRIX = """
checkpoints:
  tiny: {network: sortformer, licence: MIT}
variants:
  sortformer:
    checkpoint: [tiny]
    file: sortformer
    form: {chunk: 3, right: 2, fifo: 10, spkcache: 24, update_period: 7, width: 32, mels: 16}
    axes:
      format:
        onnx: {format: onnx, on_request: true}
        coreml: {}
    checks: [streaming]
    limits:
      streaming.agreement: {least: 1, unit: share of decisions, reason: the same speakers, required: build}
      streaming.convert: {most: 1.0e-4, unit: probability, reason: it rounds}
      streaming.compressions: {least: 1, unit: compressions, reason: the past is used}
"""


def test_only_a_pattern_asks_for_them(tmp_path: Path) -> None:
    """Any that matches does; without patterns all others are selected."""
    (tmp_path / "variants.yaml").write_text(MATRIX)
    variants = read_matrix(tmp_path / "variants.yaml").variants
    assert [variant.id for variant in variants] == ["tiny/onnx", "tiny/coreml"]
    assert [variant.id for variant in by_patterns(variants, [])] == ["tiny/coreml"]
    for pattern in ("tiny/onnx", "*"):
        assert "tiny/onnx" in [variant.id for variant in by_patterns(variants, [pattern])]


def test_another_word_than_true_or_false_is_refused(tmp_path: Path) -> None:
    """With its place."""
    (tmp_path / "variants.yaml").write_text(MATRIX.replace("on_request: true", "on_request: often"))
    with pytest.raises(QuernError, match=r"axes\.format\.onnx\.on_request: expected true or false"):
        read_matrix(tmp_path / "variants.yaml")


def test_a_small_sortformer_for_onnx_decides_as_the_network_does(quern: Callable[..., Ran], tmp_path: Path) -> None:
    """From its archive down the whole line: through onnxruntime, with the past fed back, every decision is the same."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed; pip install -e '.[onnx]'")
    (tmp_path / "variants.yaml").write_text(MATRIX)
    (tmp_path / "weights" / "tiny").mkdir(parents=True)
    write_nemo(tmp_path / "weights" / "tiny" / "tiny.nemo", configuration(), saved(tiny_state()))
    out = tmp_path / "out"
    arguments = ["--matrix", tmp_path / "variants.yaml", "--weights-dir", tmp_path / "weights", "--out", out]
    ran = quern("tiny/onnx", "--thorough", *arguments)  # a whole recording, and not single calls
    assert ran.status == 0, ran.out + ran.err
    checks = {check["name"]: check for check in json.loads((out / "tiny" / "onnx" / "checks.json").read_text())}
    assert {check["outcome"] for check in checks.values()} == {"pass"}
    assert checks["streaming.agreement"]["measured"] == 1
