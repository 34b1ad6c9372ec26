"""Which recordings parity is measured on."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.types import EnvironmentTroubleError

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


def find(folder: Path | None, declared: Sequence[str], root: Path) -> tuple[Path, ...]:
    """Return the recordings of a folder, sorted by name: the given one, or the first declared one that exists.

    A declared folder may name environment variables, and is relative to `root`; `python:PACKAGE/FOLDER` is a folder of
    an installed package, which is not imported. Raises EnvironmentTroubleError if the given folder holds none; where
    no declared folder has any, returns ().
    """
    if folder is not None:
        found = _in(folder)
        if not found:
            raise EnvironmentTroubleError(f"{folder}: no recordings ({', '.join(SUFFIXES)}) in this folder")
        return found
    return next((found for name in declared if (found := _in(_folder(name, root)))), ())


def _folder(declared: str, root: Path) -> Path:
    kind, _, name = declared.partition("python:")
    if kind or not name:
        return root / os.path.expandvars(declared)
    package, _, folder = name.partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # a package above it is not there
        spec = None
    return Path(spec.origin).parent / folder if spec and spec.origin else root / declared


def _in(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(p.resolve() for p in folder.glob("*") if p.suffix in SUFFIXES)) if folder.is_dir() else ()
