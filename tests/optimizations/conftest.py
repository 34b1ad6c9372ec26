"""A store for the tests of passes."""

from pathlib import Path

import pytest


@pytest.fixture
def memo(tmp_path: Path):
    """Return a memo that keeps what it has in folders, and counts what had to be made."""
    packages = pytest.importorskip("tests.optimizations.packages", exc_type=ImportError)
    return packages.DiskMemo(tmp_path / "store")
