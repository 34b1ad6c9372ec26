"""Audio is cut into frames by one convolution, and no bit of it changes."""

import numpy as np

from converters.models import frame_extractor as plugin
from converters.models.frame_extractor import Form
from tests.converters.processors import converted, examples, furthest, operations, ours


def test_frames_equal_what_slicing_gives(tmp_path) -> None:
    """audio [1, 160000] → frames [998, 400], in torch and converted: one convolution, and no slice."""
    [audio], [frames] = plugin.inputs(Form()), plugin.outputs(Form())
    assert (audio.name, audio.shape) == ("audio", (1, 160000))
    assert (frames.name, frames.shape) == ("frames", (998, 400))
    cases, definition = examples(plugin, Form()), plugin.reference({}, Form())
    assert furthest(ours(plugin, Form(), {}), definition, cases) == {"frames": 0}
    assert furthest(converted(plugin, Form(), {}, tmp_path), definition, cases) == {"frames": 0}
    assert operations(tmp_path) == {"expand_dims": 1, "conv": 1, "squeeze": 1, "transpose": 1}


def test_frame_i_begins_at_sample_160_i() -> None:
    """On a ramp every sample tells where it comes from; the last frame ends at the last whole one, 160 · 997 + 399."""
    ramp = {"audio": np.arange(160000, dtype=np.float32)[np.newaxis]}
    frames = ours(plugin, Form(), {})(ramp)["frames"]
    np.testing.assert_array_equal(frames, 160 * np.arange(998)[:, np.newaxis] + np.arange(400))
    np.testing.assert_array_equal(plugin.reference({}, Form())(ramp)["frames"], frames)
