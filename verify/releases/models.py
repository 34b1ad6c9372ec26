"""The models of a release, and which of another release each of them replaces."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mil.program import Program
from pipeline.types import QuernError

SUFFIXES = (".mlmodelc", ".mlpackage")


@dataclass(frozen=True)
class Model:
    """One model of a release.

    name   its path below the folder of the release, without suffix
    """

    name: str
    bundle: Path | None
    package: Path | None

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.bundle, self.package) if path is not None)

    @property
    def loaded(self) -> Path:
        """What an app would load: the bundle, where there is one."""
        return self.files[0]


@dataclass(frozen=True)
class Opened:
    """A model and the program of the file that an app would load."""

    model: Model
    program: Program


Pair = tuple[Model | None, Model | None]  # in the old release, in the new one


def release(path: Path) -> dict[str, Model]:
    """Return the models of a release by name: of a folder, or the one that a package or bundle is.

    Folders whose name begins with a dot, and models inside models, are left out. Raises QuernError where there is none.
    """
    if path.is_dir() and path.suffix in SUFFIXES:
        return {path.stem: _model(path.stem, [path])}
    if not path.is_dir():
        raise QuernError(f"{path}: expected a .mlpackage, a .mlmodelc or a folder of them, found none")
    found: dict[str, list[Path]] = {}
    for file in sorted(each for suffix in SUFFIXES for each in path.rglob(f"*{suffix}") if each.is_dir()):
        inside = file.relative_to(path)
        if not any(
            parent.suffix in SUFFIXES or parent.name.startswith(".") for parent in inside.parents if parent.name
        ):
            found.setdefault(inside.with_suffix("").as_posix(), []).append(file)
    if not found:
        raise QuernError(f"{path}: expected {' or '.join(SUFFIXES)} somewhere below, found none")
    return {name: _model(name, files) for name, files in found.items()}


def _model(name: str, files: Iterable[Path]) -> Model:
    by_suffix = {file.suffix: file for file in files}
    return Model(name, by_suffix.get(".mlmodelc"), by_suffix.get(".mlpackage"))


def pairs(old: Mapping[str, Model], new: Mapping[str, Model]) -> dict[str, Pair]:
    """Return the models of both releases in pairs, by name; one that has no counterpart is alone.

    Two single models are a pair whatever they are called. Then equal paths are, and of what is left equal file names,
    where a release has only one of that name.
    """
    if len(old) == len(new) == 1:
        [before], [after] = old.values(), new.values()
        return {after.name: (before, after)}
    found: dict[str, Pair] = {name: (old[name], new[name]) for name in old if name in new}
    moved = {name: _alone(models, found) for name, models in (("old", old), ("new", new))}
    for stem, before in moved["old"].items():
        if stem in moved["new"]:
            after = moved["new"][stem]
            found[after.name] = (before, after)
    paired = {model.name for pair in found.values() for model in pair if model is not None}
    found |= {name: (model, None) for name, model in old.items() if name not in paired}
    found |= {name: (None, model) for name, model in new.items() if name not in paired}
    return dict(sorted(found.items()))


def _alone(models: Mapping[str, Model], taken: Mapping[str, Pair]) -> dict[str, Model]:
    """Return the models that are not taken, by file name, where it is the name of one of them only."""
    left = [model for name, model in models.items() if name not in taken]
    counts = Counter(Path(model.name).name for model in left)
    return {Path(model.name).name: model for model in left if counts[Path(model.name).name] == 1}
