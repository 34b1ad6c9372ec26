"""`python -m verify`, as somebody meets it who has never used it."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.code import ROOT
from verify.commands.line import COMMANDS, main


def test_every_command_can_be_asked_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    """Each has a module, and help that names its arguments."""
    for command in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        assert f"usage: python -m verify {command}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["contracts"]])
def test_what_is_no_command_is_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """2, and the commands that there are."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: python -m verify" in capsys.readouterr().err


def test_a_damaged_file_is_told_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bad input is no traceback."""
    path = tmp_path / "model.mlmodel"
    path.write_bytes(b"no protobuf")
    assert main(["lint", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"verify lint: {path}: ")


def test_nothing_heavy_is_imported() -> None:
    """Both answer at once: neither torch nor the whole of coremltools is needed to read a program."""
    code = (
        "import sys, verify.commands.contract, verify.commands.lint;"
        "print([name for name in ('torch', 'coremltools', 'rich', 'numba') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"
