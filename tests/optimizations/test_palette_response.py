"""The drawing of what a search found, and the table of the benchmark."""

import json

import pytest

from benchmarks.palette_response import main

FINDINGS = {
    "sensitivity": {"main/a": {"4": 1e-3, "6": 1e-4}, "main/b": {"4": 2e-5, "6": 0.0}},
    "curve": [[1000, 1e-3], [2000, 1e-4], [4000, 0.0]],
    "weight_bytes": {"before": 4000, "after": 2000},
    "decided": {"assignment": {"main/a": 6, "main/b": 4}},
    "measured": {"held_out": {"argmax": 0.99}},
}


def test_the_response_is_drawn_and_kept_as_numbers(tmp_path):
    """A picture and its data, from the findings of a search."""
    pytest.importorskip("matplotlib")
    (tmp_path / "findings.json").write_text(json.dumps(FINDINGS))
    assert main([str(tmp_path / "findings.json"), "--out", str(tmp_path / "drawn")]) == 0
    assert (tmp_path / "drawn" / "response.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "drawn" / "response.json").read_text())["front"][1] == [0.002, 1e-4]


@pytest.mark.parametrize("content", ["{}", "no json"])
def test_other_files_are_refused(tmp_path, capsys, content):
    """Findings of another pass, or no findings, are a sentence and a status."""
    (tmp_path / "findings.json").write_text(content)
    assert main([str(tmp_path / "findings.json"), "--out", str(tmp_path)]) == 2
    assert "no findings of a search" in capsys.readouterr().err
