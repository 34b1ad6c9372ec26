"""Importing what converts, without its chatter."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _run(program):
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def test_coremltools_is_imported_in_silence_and_can_still_warn():
    """Its lines on every Linux machine are gone; any other of its warnings is shown."""
    said, complained = _run(
        "from converters.toolchain import coremltools\n"
        "ct = coremltools()\n"
        "import logging\n"
        "logging.getLogger('coremltools').warning('something is wrong')\n"
        "print(ct.__version__)"
    )
    assert said.strip() == "9.0"
    assert complained.strip() == "something is wrong"


def test_without_us_coremltools_does_chatter():
    """The lines that are silenced are still said by this version: else the filter would be dead code."""
    _, complained = _run("import coremltools")
    assert "Failed to load _MLModelProxy" in complained
    assert "has not been tested with coremltools" in complained
