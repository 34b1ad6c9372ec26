"""What one machine measured, another takes over, if it was the same bytes and the same check."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import elsewhere
from pipeline.types import Artifact, Measurement, QuernError
from tests.fixtures import FIXTURES
from tests.pipeline.conftest import MATRIX, Ran
from tests.pipeline.releases import measured_on_a_mac

LOADS = Measurement("loads", 4, "compute units", "as it was planned")
NOT_RUN = Measurement("loads", None, "compute units", "needs macOS")


def artifact(folder: Path, sha256: str) -> dict[str, Artifact]:
    folder.mkdir(exist_ok=True)
    files = {"x.mlmodelc/model.mil": {"sha256": sha256}, "findings.json": {"sha256": folder.name}}
    (folder / "files.json").write_text(json.dumps({"files": files}))
    return {"bundle": Artifact(folder, "")}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of results with one in it, which builds read."""
    monkeypatch.setenv("QUERN_RESULTS", str(tmp_path / "results"))
    elsewhere.keep(tmp_path / "results", "a/b", "placement", artifact(tmp_path / "there", "1"), [LOADS, NOT_RUN])
    return tmp_path / "results"


def test_the_same_bytes_take_the_number_and_where_it_was_made(results: Path, tmp_path: Path) -> None:
    """The value, a note that names the machine and the day, and the facts of the machine."""
    here = artifact(tmp_path / "here", "1")
    [found] = elsewhere.with_results("placement", here, [NOT_RUN])
    host = json.loads(next(results.iterdir()).read_text())["host"]
    assert found.value == 4
    assert found.note.startswith(f"measured on {host['system']} {host['version']}, ")
    assert found.note.endswith(": as it was planned")
    assert found.detail["measured_on"] == host


def test_other_bytes_and_another_check_take_nothing(results: Path, tmp_path: Path) -> None:
    """A result is of what was looked at, by the check that looked."""
    assert elsewhere.with_results("placement", artifact(tmp_path / "here", "2"), [NOT_RUN]) == [NOT_RUN]
    assert elsewhere.with_results("bundle", artifact(tmp_path / "here", "1"), [NOT_RUN]) == [NOT_RUN]


def test_what_was_measured_here_stands(results: Path, tmp_path: Path) -> None:
    """A number from elsewhere never replaces one of ours."""
    ours = Measurement("loads", 2, "compute units")
    assert elsewhere.with_results("placement", artifact(tmp_path / "here", "1"), [ours]) == [ours]


def test_a_check_that_ran_nothing_leaves_nothing(tmp_path: Path) -> None:
    """And one whose outcome depends on recordings leaves nothing either."""
    shown = artifact(tmp_path / "there", "1")
    elsewhere.keep(tmp_path / "results", "a/b", "placement", shown, [NOT_RUN])
    elsewhere.keep(tmp_path / "results", "a/b", "parity", shown, [LOADS])
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"host": {}, "measurements": []}', '{"host": 1, "measurements": [{}]}'])
def test_a_file_that_is_no_result_is_named(results: Path, tmp_path: Path, text: str) -> None:
    """A damaged result is neither a pass nor silently none."""
    [path] = results.iterdir()
    path.write_text(text)
    with pytest.raises(QuernError, match=f"{path.name}: expected results that --results-out wrote"):
        elsewhere.with_results("placement", artifact(tmp_path / "here", "1"), [NOT_RUN])


def test_a_build_leaves_its_measurements_for_others(copied: Path, quern: Callable[..., Ran], tmp_path: Path) -> None:
    """--results-out writes what follows from the artifact alone, with the digests of what was looked at."""
    arguments = ("--out", copied, "--weights-dir", FIXTURES, "--jobs", 1, "--results-out", tmp_path / "left")
    ran = quern(*arguments)
    assert ran.status == 0, ran.err
    records = [json.loads(path.read_text()) for path in (tmp_path / "left").iterdir()]
    assert {record["variant"] for record in records} == {"segmentation-3.0/fp16", "segmentation-3.0/w6"}
    assert {record["check"] for record in records} >= {"alias", "size"}
    assert "parity" not in {record["check"] for record in records}


FIGURES = """
      placement.neural_engine: {least: 0.5, unit: share of operations, reason: it was recommended}
      placement.milliseconds_per_10s: {most: 46, unit: ms, reason: a figure to beat}
      placement.real_time_factor: {most: 0.05, unit: seconds per second, reason: windows overlap}
      placement.peak_memory: {most: 350, unit: MB, reason: an app has other things to do}
"""
OF_A_MAC = (
    Measurement("loads", 4, "compute units"),
    Measurement("neural_engine", 0.75, "share of operations", "3 on MLNeuralEngineComputeDevice"),
    Measurement("milliseconds_per_10s", 12.5, "ms"),
    Measurement("real_time_factor", 0.002, "seconds per second"),
    Measurement("peak_memory", 900.0, "MB"),
)


def test_figures_of_a_mac_pass_or_fail_without_building(
    copied: Path, quern: Callable[..., Ran], tmp_path: Path
) -> None:
    """`not run: needs macOS` until the results are there; then each is held against its limit, by digest."""
    (tmp_path / "variants.yaml").write_text(MATRIX + FIGURES)

    def figures(status: int) -> dict[str, tuple[str, float | None]]:
        arguments = ("segmentation-3.0/w6", "--matrix", tmp_path / "variants.yaml", "--out", copied)
        ran = quern(*arguments, "--weights-dir", FIXTURES, "--json", QUERN_RESULTS=str(tmp_path / "results"))
        assert ran.status == status, ran.err
        (variant,) = ran.document["variants"]
        assert all(step["seconds"] is None for step in variant["steps"] if step["stage"] != "verify")
        checks = json.loads((copied / "segmentation-3.0" / "w6" / "checks.json").read_text())
        assert all(check["note"] == "needs macOS" for check in checks if check["outcome"] == "not run")
        return {c["name"]: (c["outcome"], c["measured"]) for c in checks if c["name"].startswith("placement")}

    assert set(figures(0).values()) == {("not run", None)}
    measured_on_a_mac(copied, "segmentation-3.0/w6", tmp_path / "results", *OF_A_MAC)
    assert figures(1) == {
        f"placement.{each.name}": ("fail" if each.name == "peak_memory" else "pass", each.value) for each in OF_A_MAC
    }
