"""Which artifacts are the single-precision rung of their own ladder."""

from dataclasses import replace

import pytest

from pipeline import steps
from pipeline.code import ROOT
from pipeline.config import read_matrix

VARIANTS = {variant.id: variant for variant in read_matrix(ROOT / "variants.yaml").variants}


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("wespeaker-voxceleb-resnet34-LM/fp32", True),
        ("segmentation-3.0/onnx-fp32", True),
        ("plda-community-1/gguf", True),
        ("wespeaker-voxceleb-resnet34-LM/mixed", False),
        ("segmentation-3.0/w8", False),
    ],
)
def test_only_what_computes_in_single_precision_is(name: str, exact: bool) -> None:
    """In any format; neither half precision nor palettes."""
    assert steps.is_exact(VARIANTS[name]) == exact


def test_halves_at_the_edges_are_not() -> None:
    """A program that takes and returns half precision rounds there, whatever it computes in."""
    half = VARIANTS["segmentation-3.0/fp16-io16"]
    assert not steps.is_exact(replace(half, convert=replace(half.convert, precision="fp32")))
