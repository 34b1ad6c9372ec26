"""One release against another, whole: the rows of every model."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mil.errors import MilError
from mil.program import load
from verify.releases.costs import costs
from verify.releases.findings import found
from verify.releases.models import Model, Opened, Pair, pairs, release
from verify.releases.outputs import compared
from verify.releases.rows import Limits, Row


def compare(old: Path, new: Path, recordings: Sequence[Path], hop_s: float, limits: Limits) -> Iterator[Row]:
    """Yield the rows of all models of two releases, model by model.

    Raises QuernError where there is no release, and for recordings that cannot be read.
    """
    for name, pair in pairs(release(old), release(new)).items():
        yield from _model(name, pair, recordings, hop_s, limits)


def _model(name: str, pair: Pair, recordings: Sequence[Path], hop_s: float, limits: Limits) -> Iterator[Row]:
    old, new = pair
    if new is None:
        yield Row(name, "there", 1, 0, "models", "both", "fail", ("the new release has no such model",))
        return
    after = _opened(new)
    if isinstance(after, str):
        yield Row(name, "readable", None, None, "", "both", "fail", (after,))
        return
    before = None if old is None else _opened(old)
    if before is None:
        yield Row(name, "there", 0, 1, "models", notes=("only the new release has such a model",))
    if isinstance(before, str):
        yield Row(name, "readable", None, None, "", "both", "not run", (f"of the old release: {before}",))
        before = None
    yield from found(name, before, after, limits)
    if before is not None:
        yield from costs(name, before.program, after.program, limits)
        yield from compared(name, before.program, after.program, recordings, hop_s, limits)


def _opened(model: Model) -> Opened | str:
    """Return a model with its program, or why it cannot be read."""
    try:
        return Opened(model, load(model.loaded))
    except MilError as error:
        return str(error)
