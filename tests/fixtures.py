"""Where the real weights, recordings and compiled models are that tests hold our work against."""

import os
from pathlib import Path

import pytest

FIXTURES = Path(os.environ.get("QUERN_FIXTURES", Path(__file__).parents[2] / "shared" / "fixtures")).resolve()

needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no fixtures at {FIXTURES}; set QUERN_FIXTURES")
