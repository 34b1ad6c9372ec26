"""The streaming check, on streams that were broken in the ways it exists to find."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diarization.streaming import update
from diarization.streaming.drive import LENGTHS, PREDS
from diarization.streaming.examples import COMPRESSIONS, FEATURES, SILENCE_FRAMES, drive
from diarization.streaming.state import State, StreamingParameters
from pipeline.tensors import write_tensors
from pipeline.types import Arrays, Measurement, Runner, Subject, Tensor
from tests.diarization.toy_sortformer import features, toy
from verify.streaming import MEASURES, measure

PARAMETERS = StreamingParameters(6, 7, 40, 31, embedding_size=12)
TENSOR = Tensor(PREDS, ("batch", "frame", "speaker"), (1, 242, 4), "float32", "probability")
RECORDING = features(PARAMETERS, 900)

# What an artifact in half precision keeps, and none of the broken ones does.
MOST_DIFFERENCE = 0.05
LEAST_AGREEMENT = 0.9995


def rolled_out(runner: Runner, parameters: StreamingParameters = PARAMETERS) -> Arrays:
    outputs = drive(runner, {FEATURES: RECORDING}, parameters)
    return {f"talk/{name}": array for name, array in outputs.items()}


@pytest.fixture(scope="module")
def truth() -> Arrays:
    return rolled_out(toy(PARAMETERS))


def measured(folder: Path, **rungs: Arrays | str) -> dict[str, Measurement]:
    files: dict[str, Path | str] = {}
    for name in ("upstream", "network", "float32", "declared"):
        rung = rungs.get(name, rungs["truth"])
        files[name] = rung if isinstance(rung, str) else folder / name
        if not isinstance(rung, str):
            write_tensors(rung, folder / name)
    return {m.name: m for m in measure(Subject((), (TENSOR,), rungs=files))}


def test_equal_rungs_agree_everywhere(tmp_path: Path, truth: Arrays) -> None:
    """Nothing differs, everything that is declared is measured, and the memory was really used."""
    found = measured(tmp_path, truth=truth)
    assert {name: m.unit for name, m in found.items()} == MEASURES
    assert [found[name].value for name in ("rewrite", "convert", "precision", "max_difference", "growth")] == [0] * 5
    assert [found[name].value for name in ("agreement", "agreement_worst", "argmax")] == [1, 1, 1]
    assert (found["compressions"].value or 0) > 10
    assert (found["silence"].value or 0) > 10


@pytest.mark.parametrize(
    ("rung", "differing"), [("upstream", "rewrite"), ("float32", "convert"), ("declared", "precision")]
)
def test_a_difference_is_found_at_its_rung(tmp_path: Path, truth: Arrays, rung: str, differing: str) -> None:
    """The error is told where it came in."""
    other = truth | {f"talk/{PREDS}": truth[f"talk/{PREDS}"] * np.float32(0.9)}
    found = measured(tmp_path, truth=truth, **{rung: other})
    assert (found[differing].value or 0) > 0.05


def test_rounding_is_agreed_with(tmp_path: Path, truth: Arrays) -> None:
    """A network whose outputs are rounded to half precision keeps its decisions, and does not drift."""
    run = toy(PARAMETERS)

    def rounded(inputs: Arrays) -> Arrays:
        outputs = {name: array.astype(np.float16) for name, array in run(inputs).items()}
        return outputs | {LENGTHS: outputs[LENGTHS].astype(np.int32)}

    found = measured(tmp_path, truth=truth, declared=rolled_out(rounded))
    assert 0 < (found["max_difference"].value or 0) < MOST_DIFFERENCE
    assert (found["agreement"].value or 0) >= LEAST_AGREEMENT
    assert (found["argmax"].value or 0) >= LEAST_AGREEMENT
    assert abs(found["growth"].value or 1) < 1e-4


def wrong_fifo_length(inputs: Arrays) -> Arrays:
    """Leave the latest frames of the FIFO out, as a program does that is told one length for another."""
    fifo_lengths = np.maximum(inputs["fifo_lengths"] - 8, 0)
    outputs = toy(PARAMETERS)(inputs | {"fifo_lengths": fifo_lengths})
    left_out = int(inputs["fifo_lengths"][0] - fifo_lengths[0])
    return outputs | {PREDS: np.roll(outputs[PREDS], left_out, axis=1)}


def fifo_shifted_by_a_frame(inputs: Arrays) -> Arrays:
    """Predict for every frame what belongs to the one before, which is then what the cache is chosen by."""
    outputs = toy(PARAMETERS)(inputs)
    return outputs | {PREDS: np.roll(outputs[PREDS], 1, axis=1)}


def softmax(inputs: Arrays) -> Arrays:
    """Let the speakers of a frame compete, so that none interrupts another and silence is nobody's."""
    outputs = toy(PARAMETERS)(inputs)
    odds = outputs[PREDS] / np.maximum(1 - outputs[PREDS], 1e-6)
    return outputs | {PREDS: odds / np.maximum(odds.sum(axis=-1, keepdims=True), 1e-6)}


def second_sigmoid(inputs: Arrays) -> Arrays:
    """Take probabilities for logits: more than one half, all of them."""
    outputs = toy(PARAMETERS)(inputs)
    return outputs | {PREDS: 1 / (1 + np.exp(-outputs[PREDS]))}


@pytest.mark.parametrize("broken", [wrong_fifo_length, fifo_shifted_by_a_frame, softmax, second_sigmoid])
def test_a_broken_network_is_caught(tmp_path: Path, truth: Arrays, broken: Callable[[Arrays], Arrays]) -> None:
    """Decisions change, more of them than any precision is allowed."""
    found = measured(tmp_path, truth=truth, declared=rolled_out(broken))
    assert (found["agreement"].value or 0) < LEAST_AGREEMENT
    assert (found["agreement_worst"].value or 0) <= (found["agreement"].value or 0)
    assert (found["max_difference"].value or 0) > 0.4


COMPRESSED, QUEUED_UP = update._compressed, update.queued_up


def compression_skipped(state: State, preds: np.ndarray, parameters: StreamingParameters) -> State:
    """Forget the oldest frames, whoever spoke in them."""
    return replace(state, spkcache=state.spkcache[-parameters.spkcache_len :])


def cache_moved_by_a_frame(state: State, preds: np.ndarray, parameters: StreamingParameters) -> State:
    state = COMPRESSED(state, preds, parameters)
    return replace(state, spkcache=np.roll(state.spkcache, 1, axis=0))


def fifo_moved_by_a_frame(state: State, frames: np.ndarray) -> State:
    state = QUEUED_UP(state, frames)
    return replace(state, fifo=np.roll(state.fifo, 1, axis=0))


@pytest.mark.parametrize(
    ("function", "broken"),
    [
        ("_compressed", compression_skipped),
        ("_compressed", cache_moved_by_a_frame),
        ("queued_up", fifo_moved_by_a_frame),
    ],
)
def test_a_broken_memory_is_caught(
    tmp_path: Path, truth: Arrays, monkeypatch: pytest.MonkeyPatch, function: str, broken: Callable[..., State]
) -> None:
    """The network is sound, what it is given is not: the error is larger than rounding's, and it grows."""
    monkeypatch.setattr(update, function, broken)
    found = measured(tmp_path, truth=truth, declared=rolled_out(toy(PARAMETERS)))
    assert (found["agreement"].value or 0) < LEAST_AGREEMENT
    assert (found["max_difference"].value or 0) > MOST_DIFFERENCE
    assert (found["growth"].value or 0) > 1e-3
    assert found["compressions"].value == (0 if broken is compression_skipped else 22)


def test_an_error_that_grows_is_told_from_one_that_stays(tmp_path: Path, truth: Arrays) -> None:
    """The same mean error: spread evenly it does not grow, piled up at the end it does."""
    preds = truth[f"talk/{PREDS}"]
    grows = np.linspace(0, 0.02, len(preds), dtype=np.float32)[:, np.newaxis]
    stays = truth | {f"talk/{PREDS}": preds + np.float32(0.01)}
    growing = truth | {f"talk/{PREDS}": preds + grows}
    assert measured(tmp_path, truth=truth, declared=stays)["growth"].value == pytest.approx(0, abs=1e-6)
    found = measured(tmp_path, truth=truth, declared=growing)["growth"]
    assert found.value == pytest.approx(0.02 * 2 / 3, rel=0.01)
    assert found.detail["recording"] == "talk"


def test_single_calls_have_no_growth_and_no_compressions(tmp_path: Path, truth: Arrays) -> None:
    """They are compared by their decisions; what only a recording can show is not run, and says why."""
    calls = {f"talk@cold/{PREDS}": truth[f"talk/{PREDS}"][:14]}
    found = measured(tmp_path, truth=calls)
    assert found["agreement"].value == 1
    for name in ("growth", "compressions", "silence"):
        assert (found[name].value, found[name].note) == (None, "no whole recording was run")


def test_what_is_no_number_agrees_with_nothing(tmp_path: Path, truth: Arrays) -> None:
    """A comparison with NaN is false, as silence is; it must not pass for silence."""
    preds = truth[f"talk/{PREDS}"].copy()
    silent = np.flatnonzero((preds < 0.5).all(axis=1))[:5]
    preds[silent] = np.nan
    found = measured(tmp_path, truth=truth, declared=truth | {f"talk/{PREDS}": preds})
    assert found["agreement"].detail["differing"] == 20
    assert np.isnan(found["max_difference"].value or 0)


def test_a_recording_that_ends_early_agrees_with_nothing(tmp_path: Path, truth: Arrays) -> None:
    """Frames that are missing are errors, not a shorter recording."""
    short = truth | {f"talk/{PREDS}": truth[f"talk/{PREDS}"][:-6]}
    found = measured(tmp_path, truth=truth, declared=short)
    assert [found[name].value for name in ("agreement", "argmax", "growth")] == [0, 0, float("inf")]


def test_without_recordings_nothing_has_a_value(tmp_path: Path) -> None:
    """No recordings, no verdict."""
    assert {m.value for m in measured(tmp_path, truth="no recordings").values()} == {None}  # type: ignore[arg-type]


def test_the_counts_are_those_of_the_artifact(tmp_path: Path, truth: Arrays) -> None:
    """A recording too short to compress anything is seen, though all rungs agree."""
    short = truth | {f"talk/{name}": np.zeros(3, np.int32) for name in (COMPRESSIONS, SILENCE_FRAMES)}
    found = measured(tmp_path, truth=truth, declared=short)
    assert (found["compressions"].value, found["silence"].value) == (0, 0)
