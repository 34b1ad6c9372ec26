"""Networks that are declared as one are connected by name, checked, and run as one."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from converters.models import segmentation, segmentation_postprocessor
from pipeline import fuse
from pipeline.config import read_matrix
from pipeline.options import Complaints
from pipeline.plugins import functions
from pipeline.types import Arrays, QuernError, Recording

MASKS = {"fuse": ["segmentation", "segmentation_postprocessor"], "outputs": ["segments", "masks"]}


def form(**changes: object) -> fuse.Form:
    complaints = Complaints()
    found = fuse.read_form(MASKS | changes, "form", complaints)
    assert found, complaints
    return found


def complaint(**changes: object) -> str:
    complaints = Complaints()
    fuse.read_form(MASKS | changes, "form", complaints)
    assert len(complaints) == 1, complaints
    return complaints[0]


@pytest.fixture(scope="module")
def state() -> Arrays:
    return {f"segmentation/{name}": tensor for name, tensor in segmentation.synthetic(0).items()}


@pytest.fixture(scope="module")
def talk() -> Recording:
    samples = np.random.default_rng(0).normal(scale=0.1, size=11 * 16000).astype(np.float32)
    return Recording("noise", samples, 16000, "0" * 64)


def test_the_whole_takes_what_no_stage_makes() -> None:
    """And puts out what is asked for, or else what its last stage does."""
    assert [tensor.name for tensor in fuse.inputs(form())] == ["audio"]
    assert [tensor.name for tensor in fuse.outputs(form())] == ["segments", "masks"]
    assert [tensor.name for tensor in fuse.outputs(form(outputs=[]))] == ["masks"]


def test_the_whole_computes_what_its_stages_do(state: Arrays, talk: Recording) -> None:
    """One torch module, with the weights of each stage under its name."""
    example, *_ = fuse.examples(form(), [talk])
    audio = torch.from_numpy(example.inputs["audio"])
    with torch.inference_mode():
        segments, masks = fuse.load(state, form())(audio)
        own = segmentation.load(segmentation.synthetic(0), segmentation.Form())(audio)
        expected = segmentation_postprocessor.load({}, segmentation_postprocessor.Form())(own)
    assert torch.equal(segments, own)
    assert torch.equal(masks, expected)
    assert masks.unique().tolist() == [0, 1]


def test_what_later_stages_need_besides_comes_from_their_examples(talk: Recording) -> None:
    """A database, say, where the first stage knows of audio only."""
    whole = form(
        fuse=[
            "embedding_preprocessor",
            {"wespeaker": {"rename": {"masks": "clean_masks"}}},
            "post_embedding",
        ],
        outputs=["distances"],
    )
    assert [tensor.name for tensor in fuse.inputs(whole)] == ["audio", "masks", "database"]
    example = next(fuse.examples(whole, [talk]))
    assert {name: array.shape for name, array in example.inputs.items()} == {
        tensor.name: tensor.shape for tensor in fuse.inputs(whole)
    }


def test_the_code_of_every_stage_decides_the_step() -> None:
    """Editing a stage must convert the whole anew."""
    found = functions("fused", form(), "load")
    assert [function.__module__ for function in found] == [
        "pipeline.fuse",
        "converters.models.segmentation",
        "converters.models.segmentation_postprocessor",
    ]


def test_a_stage_that_does_not_fit_is_named_with_both_shapes() -> None:
    """Connecting by name alone would fail somewhere deep in torch."""
    wrong = complaint(fuse=[{"segmentation": {"form": {"window_s": 5}}}, "segmentation_postprocessor"])
    assert wrong == "form.fuse[1]: segmentation_postprocessor.segments expects 1 × 589 × 7, and segments is 1 × 293 × 7"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fuse": ["segmentatoin"]}, "form.fuse[0].segmentatoin: unknown network; did you mean 'segmentation'?"),
        ({"outputs": ["mask"]}, "form.outputs.mask: no stage puts it out; there is segments, masks"),
        (
            {"fuse": ["segmentation", {"segmentation_postprocessor": {"rename": {"segment": "x"}}}]},
            "form.fuse[1].rename.segment: segmentation_postprocessor has no such input",
        ),
        ({"fuse": [{"segmentation": {}, "plda": {}}]}, "form.fuse[0]: expected one network with its settings"),
        ({"fuse": [{"segmentation": {"form": {"window": 5}}}]}, "unknown option; did you mean 'window_s'?"),
    ],
)
def test_what_is_wrong_with_a_fusion_is_said(changes: dict, expected: str) -> None:
    """With its path in the file."""
    assert expected in complaint(**changes)


def test_a_stage_without_weights_of_its_own_is_an_error(tmp_path: Path) -> None:
    """A network with weights needs a part of the checkpoint that has them."""
    matrix = {
        "checkpoints": {"whole": {"network": "fused", "parts": []}},
        "variants": {"fused": {"checkpoint": ["whole"], "file": "masks", "form": MASKS}},
    }
    (tmp_path / "variants.yaml").write_text(yaml.safe_dump(matrix))
    with pytest.raises(QuernError, match=r"checkpoints\.whole\.parts: no weights for segmentation"):
        read_matrix(tmp_path / "variants.yaml")
