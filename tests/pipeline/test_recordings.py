from pathlib import Path

import pytest

from pipeline.recordings import find
from pipeline.types import EnvironmentTroubleError


def folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).touch()
    return path


def test_a_given_folder_wins(tmp_path: Path) -> None:
    """--audio is taken whatever is declared; other files in it are no recordings."""
    given = folder(tmp_path / "given", "b.wav", "a.flac", "a.rttm")
    folder(tmp_path / "declared", "c.wav")
    assert [path.name for path in find(given, ["declared"], tmp_path)] == ["a.flac", "b.wav"]


def test_the_first_declared_folder_that_has_any_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing folder, an unset variable and an empty folder are passed over."""
    folder(tmp_path / "empty")
    folder(tmp_path / "third", "c.wav")
    monkeypatch.delenv("NOWHERE", raising=False)
    assert [p.name for p in find(None, ["missing", "$NOWHERE/audio", "empty", "third"], tmp_path)] == ["c.wav"]


def test_a_folder_of_an_installed_package_can_be_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is found, and not imported: importing this one would fail."""
    package = folder(tmp_path / "spoken")
    (package / "__init__.py").write_text("raise RuntimeError")
    folder(package / "sample", "talk.wav")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [p.name for p in find(None, ["python:spoken/sample"], tmp_path)] == ["talk.wav"]
    assert find(None, ["python:unspoken.audio/sample"], tmp_path) == ()


def test_a_given_folder_without_recordings_is_an_error(tmp_path: Path) -> None:
    """Measuring on nothing is no measurement."""
    with pytest.raises(EnvironmentTroubleError, match="no recordings"):
        find(folder(tmp_path / "empty"), [], tmp_path)
