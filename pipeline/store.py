"""Finished steps on disk, found by the key of their recipe.

    <root>/<key>/              what the step wrote, read-only
    <root>/<key>/files.json    sha256, size, mtime and inode of every file, and the digest of them all
    <root>/<key>/uses.json     keys of other entries that were made on the way, if any
    <root>/<key>/recipe.json   written last: a folder with a recipe is complete
    <root>/.tmp/…              work in progress; what a killed build leaves here is swept by `prune`
    <root>/.locks/<key>        held while a step is built, so that two builds do not do the same work twice

A step is built in `.tmp` and moved into place by one rename, so a build may be killed at any moment. One that resumes
is built in `.tmp/<key>` and finds there what a killed build left of it.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.recipe import canonical, key
from pipeline.types import Artifact, Step

_OWN = ("files.json", "recipe.json", "uses.json")


class MissingError(Exception):
    """A step that is not in the store was asked of a store that must not build."""

    def __init__(self, step: Step) -> None:
        super().__init__(step.name)
        self.step = step


class CorruptedError(Exception):
    """What a step was about to read is not what was stored; the entry has been dropped, so a new start heals it."""


@dataclass(frozen=True)
class Store:
    """A store at `root`; with `builds` False it only looks, and raises MissingError for what it does not hold.

    watch   is told the name of each step when its work begins
    """

    root: Path
    builds: bool = True
    watch: Callable[[str], None] = lambda name: None

    def get(self, step: Step) -> Artifact:
        """Return the result of a step, building it if it is not there whole.

        Raises MissingError if it must not build, CorruptedError if an input of the step has been altered.
        """
        found = self.find(step)
        if found is not None:
            return found
        if not self.builds:
            raise MissingError(step)
        name = key(step.recipe)
        with _lock(self.root / ".locks" / name):
            return self.find(step) or self._build(step, self.root / name)

    def find(self, step: Step) -> Artifact | None:
        """Return the stored result of a step, or None; an entry that is not intact counts as absent and is dropped."""
        folder = self.root / key(step.recipe)
        if not (folder / "recipe.json").is_file():
            return None
        if not _looks_intact(folder):
            if not _is_intact(folder):
                _remove(folder)
                return None
            _write_listing(folder)  # copied from elsewhere: the same bytes under other inodes
        return Artifact(folder, _listing(folder)["digest"])

    def recipe(self, name: str) -> dict[str, Any] | None:
        """Return the recipe of a stored step by its key, or None."""
        path = self.root / name / "recipe.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def check(self) -> Iterator[str]:
        """Re-hash every entry, drop those that are not what was stored, and yield their keys."""
        for folder in self._entries():
            if not (folder / "recipe.json").is_file() or not _is_intact(folder):
                _remove(folder)
                yield folder.name

    def prune(self, wanted: Iterable[str]) -> list[str]:
        """Drop every entry whose key is not wanted, and the leavings of killed builds; return the dropped keys."""
        keep = {name for step in wanted for name in (step, *self.uses(step))}
        dropped = [folder for folder in self._entries() if folder.name not in keep]
        for folder in [*dropped, *(self.root / ".tmp").glob("*"), *self.root.glob(".doomed-*")]:
            shutil.rmtree(folder, ignore_errors=True)
        return [folder.name for folder in dropped]

    def note_uses(self, folder: Path, keys: Iterable[str]) -> None:
        """Record in the folder of a step under way which other entries it was made from, so that they are kept."""
        (folder / "uses.json").write_text(json.dumps(sorted(set(keys))))

    def uses(self, name: str) -> list[str]:
        """Return the keys that the entry `name` was made from."""
        path = self.root / name / "uses.json"
        return json.loads(path.read_text()) if path.is_file() else []

    def _entries(self) -> list[Path]:
        return sorted(f for f in self.root.glob("*") if f.is_dir() and not f.name.startswith("."))

    def _build(self, step: Step, folder: Path) -> Artifact:
        for artifact in step.inputs:
            if not _is_intact(artifact.path):
                _remove(artifact.path)
                raise CorruptedError(step.name)
        self.watch(step.name)
        work = self._work(step, folder.name)
        try:
            step.run(work)
            _seal(work, step)
            _remove(folder)
            work.rename(folder)
        finally:
            if not step.resumes:
                _remove(work)
        return Artifact(folder, _listing(folder)["digest"])

    def _work(self, step: Step, name: str) -> Path:
        """Return the folder that a step is built in: empty, or where it resumes, as it was left."""
        scratch = self.root / ".tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        if not step.resumes:
            return Path(tempfile.mkdtemp(prefix=f"{step.name}-", dir=scratch))
        work = scratch / name
        work.mkdir(exist_ok=True)
        for left in file_names(work):
            (work / left).chmod(0o644)  # it may have been about to be sealed
        return work


def folder_digest(folder: Path) -> str:
    """Return the digest of a folder's content: names and bytes of all its files, and nothing else."""
    return _digest_of({name: file_digest(folder / name) for name in file_names(folder)})


def _seal(work: Path, step: Step) -> None:
    for name in file_names(work):
        (work / name).chmod(0o444)
    _write_listing(work)
    (work / "recipe.json").write_text(canonical(step.recipe))


def _write_listing(folder: Path) -> None:
    hashes = {name: file_digest(folder / name) for name in file_names(folder)}
    files = {name: {"sha256": sha256, **_stat(folder / name)} for name, sha256 in hashes.items()}
    text = json.dumps({"digest": _digest_of(hashes), "files": files}, indent=1)
    draft = folder.parent / f".{folder.name}.{os.getpid()}"
    draft.write_text(text)
    draft.rename(folder / "files.json")


def _looks_intact(folder: Path) -> bool:
    """Trust size, mtime and inode, as a build that does nothing must."""
    files = _listing(folder).get("files", {})
    return bool(files) and all(
        (folder / name).is_file() and _stat(folder / name) == {k: entry[k] for k in ("size", "mtime_ns", "inode")}
        for name, entry in files.items()
    )


def _is_intact(folder: Path) -> bool:
    """Trust nothing but the bytes."""
    files = _listing(folder).get("files", {})
    return set(file_names(folder)) == set(files) and all(
        file_digest(folder / name) == entry["sha256"] for name, entry in files.items()
    )


def _listing(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "files.json").read_text())
    except (OSError, ValueError):
        return {}


def file_names(folder: Path) -> list[str]:
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name not in _OWN)


def _stat(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(hashes: dict[str, str]) -> str:
    return key(sorted(hashes.items()))


def _remove(folder: Path) -> None:
    """Remove a folder, renaming it first so that nobody takes a half-removed one for whole."""
    if folder.exists():
        with contextlib.suppress(FileNotFoundError):
            doomed = Path(tempfile.mkdtemp(prefix=".doomed-", dir=folder.parent)) / "entry"
            folder.rename(doomed)
            shutil.rmtree(doomed.parent, ignore_errors=True)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
