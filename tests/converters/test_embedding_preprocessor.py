"""A window and its masks become what the embedding network of three waveforms takes."""

import numpy as np
import pytest

from converters.models import embedding_preprocessor as plugin
from converters.models.embedding_preprocessor import Form
from tests.converters.processors import converted, examples, furthest, operations, ours


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedding_preprocessor")
    return converted(plugin, Form(), {}, folder), operations(folder)


def test_names_and_shapes_are_those_of_the_contract() -> None:
    """audio and masks in; waveforms [3, 160000] and clean masks [3, 589] out."""
    shapes = {tensor.name: tensor.shape for tensor in (*plugin.inputs(Form()), *plugin.outputs(Form()))}
    assert shapes == {
        "audio": (1, 1, 160000),
        "masks": (1, 589, 3),
        "waveforms": (3, 160000),
        "clean_masks": (3, 589),
    }


def test_audio_and_masks_pass_without_a_bit_of_difference(program) -> None:
    """In torch and in the converted program, from silence to full scale; nothing is sliced."""
    run, kinds = program
    cases, definition = examples(plugin, Form()), plugin.reference({}, Form())
    assert furthest(ours(plugin, Form(), {}), definition, cases) == {"waveforms": 0, "clean_masks": 0}
    assert furthest(run, definition, cases) == {"waveforms": 0, "clean_masks": 0}
    assert sum(kinds.values()) == 8
    assert "slice_by_index" not in kinds


def test_frames_where_two_or_more_speak_are_zeroed(program) -> None:
    """Every set of speakers: alone they stay, two or three are gone; so are soft masks that sum to two."""
    masks = np.zeros((1, 589, 3), np.float32)
    masks[0, :8] = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]]
    masks[0, 8:10] = [[0.75, 0.75, 0.5], [0.75, 0.75, 0.25]]
    clean = program[0]({"audio": np.zeros((1, 1, 160000), np.float32), "masks": masks})["clean_masks"].T
    assert clean[:8].tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], *[[0, 0, 0]] * 4]
    assert clean[8:10].tolist() == [[0, 0, 0], [0.75, 0.75, 0.25]]


def test_half_precision_would_round_the_audio(tmp_path) -> None:
    """Which is why there is no variant of it: quiet audio would lose most of its digits."""
    run = converted(plugin, Form(), {}, tmp_path, "fp16")
    quiet = np.full((1, 1, 160000), 1.1e-7, np.float32)
    found = run({"audio": quiet, "masks": np.ones((1, 589, 3), np.float32)})["waveforms"]
    assert np.abs(found / 1.1e-7 - 1).min() > 0.05
