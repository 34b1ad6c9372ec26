"""What one repository on the hub is to hold: artifacts in their places, a model card, and where it all comes from."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.line import Built
from pipeline.store import file_digest

CARD, PROVENANCE = "README.md", "provenance.json"


@dataclass(frozen=True)
class File:
    """A file of a release: what it holds, or where that is, its sha256 in hex and its size."""

    content: Path | bytes
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Piece:
    """One artifact of a release, and its files by their path in the repository."""

    built: Built
    files: Mapping[str, File]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files.values())


@dataclass(frozen=True)
class Release:
    """Everything that one repository is to hold; `written` are the card and the provenance."""

    repository: str
    pieces: tuple[Piece, ...]
    written: Mapping[str, File] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, File]:
        found = {path: file for piece in self.pieces for path, file in piece.files.items()}
        return dict(sorted((found | dict(self.written)).items()))

    @property
    def provenance(self) -> bytes:
        content = self.written[PROVENANCE].content
        assert isinstance(content, bytes)
        return content


def piece(built: Built) -> Piece:
    """Return an artifact in its place; digests and sizes are those of the files as they are now."""
    place = built.variant.publish
    assert place is not None
    assert built.folder is not None, "only finished variants are published"
    names = sorted(built.facts["files"])
    return Piece(built, {_join(place.path, name): _read(built.folder / name) for name in names})


def releases(pieces: Iterable[Piece], owner: str) -> Iterator[Release]:
    """Yield the release of each repository, by name; the owner is that of repositories that name none."""
    by_name: dict[str, list[Piece]] = {}
    for each in pieces:
        assert each.built.variant.publish is not None
        by_name.setdefault(full_name(each.built.variant.publish.repository, owner), []).append(each)
    for name, own in sorted(by_name.items()):
        yield Release(name, tuple(sorted(own, key=lambda piece: piece.built.variant.id)))


def full_name(repository: str, owner: str) -> str:
    return f"{owner}/{repository}" if owner and "/" not in repository else repository


def altered(piece: Piece) -> list[str]:
    """Return the files of an artifact that are not what its manifest says."""
    assert piece.built.folder is not None
    stated = {piece.built.folder / name: entry["sha256"] for name, entry in piece.built.facts["files"].items()}
    return [path for path, file in piece.files.items() if stated[Path(str(file.content))] != file.sha256]


def clashes(release: Release) -> Iterator[tuple[str, str, str]]:
    """Yield each path that two artifacts claim, with both; paths that differ by case alone are one on many disks."""
    claimed: dict[str, str] = {CARD.lower(): "the model card", PROVENANCE: "the provenance"}
    told: set[tuple[str, str]] = set()
    for each in release.pieces:
        for path in each.files:
            first = claimed.setdefault(path.lower(), each.built.variant.id)
            if first != each.built.variant.id and (first, each.built.variant.id) not in told:
                told.add((first, each.built.variant.id))
                yield path, first, each.built.variant.id


def written(texts: Mapping[str, str]) -> dict[str, File]:
    """Return files that hold these texts."""
    contents = {name: text.encode() for name, text in texts.items()}
    return {name: File(c, hashlib.sha256(c).hexdigest(), len(c)) for name, c in contents.items()}


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _read(path: Path) -> File:
    return File(path, file_digest(path), path.stat().st_size)


def tree(release: Release) -> Sequence[str]:
    """Return the lines that show every file of a release with its size and digest."""
    files = release.files
    total = sum(file.size_bytes for file in files.values()) / 1e6
    width = max(map(len, files))
    head = f"{release.repository}: {len(files)} files, {total:.2f} MB"
    return [head, *(f"  {path:{width}}  {file.size_bytes:>11}  {file.sha256}" for path, file in files.items())]
