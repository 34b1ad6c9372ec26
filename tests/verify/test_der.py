"""Diarization error: what precision costs, what is wrong against labels, and that worse is seen to be worse."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from diarization.clustering import Clustering, clustered
from diarization.powerset import powerset
from diarization.turns import annotation
from pipeline.tensors import write_tensors
from pipeline.types import Measurement, QuernError, Subject, Tensor
from tests.diarization.test_speakers import conversation, cut, expected, spoken, voices
from verify.commands.line import main
from verify.der import MEASURES, measure
from verify.scoring.diarization import Rules, interval, read_rttm, read_uem, score, whole

SEGMENTS = Tensor("segments", ("batch", "frame", "class"), (1, 589, 7), "float32", "log probability")
RTTM = """SPEAKER talk 1 0.0 5.0 <NA> <NA> anna <NA> <NA>
SPEAKER talk 1 5.0 8.0 <NA> <NA> bert <NA> <NA>
SPEAKER talk 1 12.0 4.0 <NA> <NA> anna <NA> <NA>
"""
WINDOWS = range(11)


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """Return twenty seconds of silence, called talk, with labels beside it."""
    soundfile.write(tmp_path / "talk.wav", np.zeros(20 * 16000), 16000)
    (tmp_path / "talk.rttm").write_text(RTTM)
    return tmp_path / "talk.wav"


def segments(start_s: float, swapped: bool = False, late_s: float = 0.0) -> np.ndarray:
    """Return what a perfect network says of ten seconds (1, 589, 7); or one that errs."""
    seconds = start_s + np.arange(589) * 270 / 16000 - late_s
    anna = (seconds < 5) | ((seconds >= 12) & (seconds < 16))
    bert = (seconds >= 5) & (seconds < 13)
    who = np.stack([bert, anna] if swapped else [anna, bert], axis=1)
    wanted = np.pad(who, ((0, 0), (0, 1)))
    classes = (wanted[:, np.newaxis] == powerset()).all(axis=2).argmax(axis=1)
    return np.log(np.where(np.eye(7)[classes] > 0, 0.94, 0.01)).astype(np.float32)[np.newaxis]


def measured(talk: Path, declared: dict[str, np.ndarray], **changes: str) -> dict[str, Measurement]:
    exact = {f"talk@{start}s/segments": segments(start) for start in WINDOWS}
    rungs: dict[str, Path | str] = dict.fromkeys(("upstream", "network"), "not needed")
    for name, arrays in (("float32", exact), ("declared", exact | declared)):
        rungs[name] = talk.with_name(f"{name}.safetensors")
        write_tensors(arrays, talk.with_name(f"{name}.safetensors"))
    subject = Subject((), (SEGMENTS,), rungs=rungs, recordings=(talk,), **changes)  # type: ignore[arg-type]
    return {m.name: m for m in measure(subject)}


def test_a_perfect_network_has_hardly_an_error(talk: Path) -> None:
    """What is left is the width of a frame at boundaries; precision costs nothing."""
    found = measured(talk, {})
    assert set(found) == set(MEASURES)
    assert found["divergence"].value == found["cost"].value == 0
    assert 0 <= found["error"].value < 1  # type: ignore[operator]


def test_speakers_numbered_otherwise_in_a_window_cost_nothing(talk: Path) -> None:
    """They are linked by when they speak."""
    found = measured(talk, {"talk@4s/segments": segments(4, swapped=True)})
    assert found["divergence"].value == pytest.approx(0, abs=0.2)


def test_what_precision_costs_is_counted(talk: Path) -> None:
    """Half a second late everywhere is an error at each boundary, against single precision and against the labels."""
    late = {f"talk@{start}s/segments": segments(start, late_s=0.5) for start in WINDOWS}
    found = measured(talk, late)
    assert found["divergence"].value > 8  # type: ignore[operator]
    assert found["cost"].value == pytest.approx(found["error"].value, abs=1)
    assert found["cost"].detail["low"] == found["cost"].detail["high"] == pytest.approx(found["cost"].value)


def test_of_stand_ins_only_the_divergence_is_a_result(talk: Path) -> None:
    """They were never trained, so an error against labels would mean nothing."""
    found = measured(talk, {}, weights="synthetic")
    assert found["divergence"].value == 0
    assert {(found[name].value, found[name].note) for name in ("error", "cost")} == {(None, "synthetic weights")}


def test_without_labels_there_is_no_error(talk: Path) -> None:
    """Nor a pass."""
    talk.with_suffix(".rttm").unlink()
    found = measured(talk, {})
    assert (found["error"].value, found["error"].note) == (None, "no labels")


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    status = main(["der", *map(str, arguments)])
    return status, "".join(capsys.readouterr())


def test_the_command_scores_turns(talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each recording and all of them; a missed turn is missed seconds."""
    hypothesis = tmp_path / "found" / "turns.rttm"
    hypothesis.parent.mkdir()
    hypothesis.write_text(RTTM.replace("anna", "one").replace("bert", "two"))
    dataset = tmp_path
    hypothesis = hypothesis.rename(tmp_path.parent / f"{tmp_path.name}.rttm")
    status, out = command(capsys, "--dataset", dataset, "--hypothesis", hypothesis, "--json")
    assert (status, json.loads(out)["all"]["error"]) == (0, 0)
    hypothesis.write_text("".join(RTTM.splitlines(keepends=True)[:1]))
    status, out = command(capsys, "--dataset", dataset, "--hypothesis", hypothesis, "--json")
    assert json.loads(out)["recordings"]["talk"]["missed_s"] == pytest.approx(12)
    status, out = command(capsys, "--dataset", dataset, "--hypothesis", hypothesis)
    assert "talk" in out
    assert " 70.6" in out


def test_a_uem_file_says_what_is_scored(talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors elsewhere do not count."""
    (tmp_path / "part.uem").write_text(";; comment\ntalk 1 0.0 5.0\n")
    hypothesis = tmp_path.parent / f"{tmp_path.name}-first.rttm"
    hypothesis.write_text(RTTM.splitlines()[0])
    _, out = command(capsys, "--dataset", tmp_path, "--hypothesis", hypothesis, "--json")
    assert json.loads(out)["all"]["error"] == 0


def test_a_collar_forgives_what_is_near_a_boundary() -> None:
    """A quarter of a second on either side, as half a second in all."""
    from pyannote.core import Annotation, Segment

    truth, late = Annotation(), Annotation()
    truth[Segment(1, 5)] = late[Segment(1.2, 5.2)] = "anna"
    assert score(truth, late, whole(10), Rules()).error == pytest.approx(0.1)
    assert score(truth, late, whole(10), Rules(collar_s=0.5)).error == 0


def test_constant_embeddings_make_it_worse() -> None:
    """A conversation of three comes back by their voices; without any, everybody is one speaker."""
    active = conversation()
    windows, orders = cut(active)
    truth = annotation(expected(active), "talk")
    known = voices(orders, 0.02)

    def error(embeddings: np.ndarray) -> float:
        found = spoken(windows, clustered(windows, embeddings, Clustering()))
        return score(truth, annotation(found, "talk"), whole(40.0), Rules()).error

    assert error(known) < 0.01
    assert error(np.ones_like(known)) > 0.5


def test_the_interval_holds_the_mean_and_shrinks_with_agreement() -> None:
    """Recordings that all cost the same leave no doubt."""
    assert interval([1.0, 1.0, 1.0]) == (1.0, 1.0)
    low, high = interval([0.0, 1.0, 2.0, 3.0])
    assert low < 1.5 < high


@pytest.mark.parametrize("text", ["SPEAKER talk 1 zero 5.0 <NA> <NA> anna", "SPEAKER talk 1"])
def test_a_line_that_is_no_rttm_is_named(tmp_path: Path, text: str) -> None:
    """With the file and the line."""
    (tmp_path / "bad.rttm").write_text(f"{RTTM}{text}\n")
    with pytest.raises(QuernError, match=r"bad\.rttm:4: expected `SPEAKER"):
        read_rttm(tmp_path / "bad.rttm")
    (tmp_path / "bad.uem").write_text("talk 1 0\n")
    with pytest.raises(QuernError, match=r"bad\.uem:1: expected"):
        read_uem(tmp_path / "bad.uem")


def test_a_dataset_without_labels_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It would otherwise be perfect."""
    status, out = command(capsys, "--dataset", tmp_path, "--hypothesis", tmp_path / "no.rttm")
    assert status == 2
    assert "no recording has labels" in out
