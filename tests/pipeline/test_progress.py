"""What is said while variants are built."""

import io

import pytest

from pipeline import progress
from pipeline.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """Return a list whose last number is the time in seconds."""
    times = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: times[-1])
    return times


def test_a_log_hears_about_once_a_minute_of_a_variant_that_takes_long(clock):
    """Steps of the first minute are not told, nor those within a minute of what was told."""
    stream = io.StringIO()
    shown = Progress(stream)
    for seconds in (0, 30, 61, 100, 122):
        clock.append(seconds)
        shown.step("a/w6", f"step {seconds}")
    shown.step("a/w8", "step 0")
    assert stream.getvalue() == "a/w6: step 61 (61 s)\na/w6: step 122 (122 s)\n"


def test_a_variant_that_is_built_again_is_silent_for_a_minute_again(clock):
    """What was told of the last time does not count."""
    stream = io.StringIO()
    shown = Progress(stream)
    shown.step("a/w6", "convert")
    clock.append(70.0)
    shown.step("a/w6", "optimize")
    shown.finish("a/w6", "pass")
    told = stream.getvalue()
    shown.step("a/w6", "convert")
    clock.append(120.0)
    shown.step("a/w6", "optimize")
    assert stream.getvalue() == told
