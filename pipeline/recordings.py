"""Which recordings parity is measured on."""

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.types import EnvironmentTroubleError

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


def find(folder: Path | None, declared: Sequence[str], root: Path) -> tuple[Path, ...]:
    """Return the recordings of a folder, sorted by name: the given one, or the first declared one that exists.

    Declared folders may name environment variables and are relative to `root`. Raises EnvironmentTroubleError if the
    given folder holds none; without any declared folder, returns ().
    """
    if folder is not None:
        found = _in(folder)
        if not found:
            raise EnvironmentTroubleError(f"{folder}: no recordings ({', '.join(SUFFIXES)}) in this folder")
        return found
    candidates = [root / os.path.expandvars(name) for name in declared]
    return next((found for found in map(_in, candidates) if found), ())


def _in(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(p.resolve() for p in folder.glob("*") if p.suffix in SUFFIXES)) if folder.is_dir() else ()
