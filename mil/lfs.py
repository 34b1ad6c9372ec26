"""Git LFS pointers: what lies in place of a large file that was not fetched."""

from pathlib import Path

from mil.errors import MilError

_BEGINNING = b"version https://git-lfs.github.com/spec/"


def is_pointer(path: Path) -> bool:
    """Whether a file is a pointer in place of the file itself."""
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING


def refuse_pointer(path: Path) -> None:
    """Raise MilError where a file is a pointer."""
    if is_pointer(path):
        raise MilError(f"{path}: a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
