"""The ladder, on outputs that were changed in the ways it exists to find."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.tensors import write_tensors
from pipeline.types import Arrays, Measurement, Subject, Tensor
from verify.parity import measure

SEGMENTS = Tensor("segments", ("batch", "frame", "class"), (1, 50, 7), "float32", "log probability")


@pytest.fixture
def outputs() -> Arrays:
    """Return log probabilities of two windows."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(2, 1, 50, 7)) * 4
    log_probs = (logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)).astype(np.float32)
    return {"a@0s/segments": log_probs[0], "a@1s/segments": log_probs[1]}


def measured(folder: Path, **rungs: Arrays | str) -> dict[str, Measurement]:
    files: dict[str, Path | str] = {}
    for name, rung in rungs.items():
        files[name] = rung if isinstance(rung, str) else folder / name
        if not isinstance(rung, str):
            write_tensors(rung, folder / name)
    return {m.name: m for m in measure(Subject((), (SEGMENTS,), rungs=files))}


def changed(outputs: Arrays, window: str, change: np.ndarray | float) -> Arrays:
    return outputs | {window: (outputs[window] + change).astype(np.float32)}


def test_equal_rungs_agree_everywhere(tmp_path: Path, outputs: Arrays) -> None:
    """No difference, every frame the same, every frame a distribution."""
    found = measured(tmp_path, upstream=outputs, network=outputs, float32=outputs, declared=outputs)
    assert [found[name].value for name in ("rewrite", "convert", "precision", "max_difference")] == [0, 0, 0, 0]
    assert found["argmax"].value == found["argmax_worst_window"].value == 1
    assert found["argmax"].detail["frames"] == 100
    assert (found["normalised"].value or 0) < 1e-6


@pytest.mark.parametrize(
    ("rung", "differing"),
    [("upstream", "rewrite"), ("float32", "convert"), ("declared", "precision")],
)
def test_a_difference_is_found_at_its_rung(tmp_path: Path, outputs: Arrays, rung: str, differing: str) -> None:
    """The error is told where it came in, and the other rungs stay clean where they do not touch it."""
    rungs = dict.fromkeys(("upstream", "network", "float32", "declared"), outputs)
    other = changed(outputs, "a@1s/segments", np.linspace(0, 1, 7))
    found = measured(tmp_path, **(rungs | {rung: other}))
    assert (found[differing].value or 0) > 0.01
    assert found[differing].detail["window"] == "a@1s"


def test_the_worst_window_is_named(tmp_path: Path, outputs: Arrays) -> None:
    """Half of the frames of one window are wrong: pooled a quarter, worst a half."""
    shift = np.zeros((1, 50, 7))
    shift[:, ::2] = -20 * np.eye(7)[outputs["a@1s/segments"].argmax(-1)][:, ::2]
    rungs = {"upstream": outputs, "network": outputs, "float32": outputs}
    found = measured(tmp_path, **rungs, declared=changed(outputs, "a@1s/segments", shift))
    assert found["argmax"].value == 0.75
    assert found["argmax_worst_window"].value == 0.5
    assert found["argmax_worst_window"].detail == {
        "against": "upstream",
        "window": "a@1s",
        "frames": 50,
        "differing": 25,
    }


def test_a_second_softmax_is_seen_though_argmax_is_blind_to_it(tmp_path: Path, outputs: Arrays) -> None:
    """Softmax of log probabilities keeps the most probable class, and is no log probability any more."""
    rungs = {"upstream": outputs, "network": outputs, "float32": outputs}
    found = measured(tmp_path, **rungs, declared={name: np.exp(array) for name, array in outputs.items()})
    assert found["argmax"].value == 1
    assert (found["normalised"].value or 0) > 1


def test_without_upstream_the_next_rung_is_the_top(tmp_path: Path, outputs: Arrays) -> None:
    """What was not run has no value and a reason; agreement is measured against our network, and says so."""
    rungs = {"network": outputs, "float32": outputs, "declared": outputs}
    found = measured(tmp_path, upstream="no reference outputs", **rungs)
    assert (found["rewrite"].value, found["rewrite"].note) == (None, "no reference outputs")
    assert found["argmax"].detail["against"] == "network"


def test_without_recordings_nothing_has_a_value(tmp_path: Path) -> None:
    """No recordings, no verdict."""
    found = measured(tmp_path, **dict.fromkeys(("upstream", "network", "float32", "declared"), "no recordings"))
    assert {m.value for m in found.values()} == {None}


def test_a_nan_is_no_agreement(tmp_path: Path, outputs: Arrays) -> None:
    """A frame that is no number must not count as one."""
    broken = changed(outputs, "a@0s/segments", np.nan)
    found = measured(tmp_path, upstream=outputs, network=outputs, float32=outputs, declared=broken)
    assert np.isnan(found["max_difference"].value or 0)
    assert np.isnan(found["normalised"].value or 0)


def test_rows_of_a_batch_are_windows_of_their_own(tmp_path: Path, outputs: Arrays) -> None:
    """An example of two windows bears both names; a window that filled the batch up counts once."""
    both = np.concatenate([outputs["a@0s/segments"], outputs["a@1s/segments"], outputs["a@0s/segments"]])
    batch = {"a@0s,a@1s,a@0s/segments": both}
    found = measured(tmp_path, upstream=batch, network=batch, float32=batch, declared=batch)
    assert found["argmax"].detail["windows"] == 2
