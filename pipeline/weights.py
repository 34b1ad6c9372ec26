"""Where the weights of a checkpoint come from: a folder, the Hugging Face cache, the hub, or a seeded stand-in."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from pipeline import plugins
from pipeline.store import file_digest
from pipeline.types import Checkpoint, EnvironmentTroubleError

Mode = Literal["real", "auto", "synthetic"]
SEED = 0


@dataclass(frozen=True)
class Source:
    """The files of one checkpoint.

    kind     "trained", "synthetic" (a stand-in, which has no files) or "none": a network that has no weights
    origin   where they were found, for people
    files    file name → path;  digests   file name → sha256
    parts    for a fused network, the sources of its stages by checkpoint; files and digests are then named
             "<checkpoint>/<file name>"
    """

    kind: Literal["trained", "synthetic", "none"]
    origin: str
    files: Mapping[str, Path]
    digests: Mapping[str, str]
    parts: Mapping[str, "Source"] = field(default_factory=dict)


SYNTHETIC = Source("synthetic", f"synthetic stand-in, seed {SEED}", {}, {})
WEIGHTLESS = Source("none", "it has none", {}, {})


def find(checkpoint: Checkpoint, mode: Mode, folder: Path | None) -> Source:
    """Return where the weights of a checkpoint are, downloading them if need be.

    folder   searched first, for `<folder>/<checkpoint id>/<file name>`

    Raises EnvironmentTroubleError, with what to do, when mode is "real" and the weights cannot be had, and in every
    mode when a file from the hub is not the one that is pinned.
    """
    if checkpoint.parts:
        return _joined({part.id: find(part, mode, folder) for part in checkpoint.parts})
    alternatives = plugins.network(checkpoint.network).FILES
    if () in alternatives:
        return WEIGHTLESS
    if mode == "synthetic":
        return SYNTHETIC
    local = _in_folder(checkpoint, alternatives, folder)
    if local:
        return local
    hub = _from_hub(checkpoint, network=_may_ask_the_hub(checkpoint, mode))
    if hub:
        return hub
    if mode == "auto":
        return SYNTHETIC
    raise EnvironmentTroubleError(_instructions(checkpoint, alternatives, folder))


def _joined(parts: Mapping[str, Source]) -> Source:
    """Return the sources of several checkpoints as one, which is a stand-in as soon as one of them is."""
    kinds = {part.kind for part in parts.values()}
    return Source(
        next(kind for kind in ("synthetic", "trained", "none") if kind in kinds),
        "; ".join(f"{name}: {part.origin}" for name, part in parts.items()),
        {f"{name}/{file}": path for name, part in parts.items() for file, path in part.files.items()},
        {f"{name}/{file}": digest for name, part in parts.items() for file, digest in part.digests.items()},
        parts,
    )


def _in_folder(checkpoint: Checkpoint, alternatives: Sequence[Sequence[str]], folder: Path | None) -> Source | None:
    if folder is None:
        return None
    if not folder.is_dir():
        raise EnvironmentTroubleError(f"{folder}: the folder of weights does not exist")
    home = folder / checkpoint.id
    for names in alternatives:
        found = [sorted(home.glob(name)) for name in names]
        if all(len(paths) == 1 for paths in found):
            return _source(str(home), {paths[0].name: paths[0] for paths in found})
    return None


def _may_ask_the_hub(checkpoint: Checkpoint, mode: Mode) -> bool:
    """Return whether asking can succeed: with a token always; without one only where there is no gate.

    In mode "auto" nobody asked for the network, so without a token there is no call.
    """
    return _token() is not None or (mode == "real" and not checkpoint.gated)


def _from_hub(checkpoint: Checkpoint, network: bool) -> Source | None:
    """Return the pinned files from the cache or, if `network`, from the hub; None where neither has them."""
    if not checkpoint.hub_files:
        return None
    files = {Path(name).name: _hub_file(checkpoint, name, network) for name in checkpoint.hub_files}
    if any(path is None for path in files.values()):
        return None
    found = {name: path for name, path in files.items() if path is not None}
    source = _source(f"{checkpoint.repository}@{checkpoint.revision[:12]}", found)
    for name, pinned in checkpoint.hub_files.items():
        digest = source.digests[Path(name).name]
        if digest != pinned:
            raise EnvironmentTroubleError(
                f"{found[Path(name).name]}: expected sha256 {pinned[:12]}…, found {digest[:12]}…; "
                f"remove the file so that it is fetched again, or pin the new digest in variants.yaml"
            )
    return source


def _hub_file(checkpoint: Checkpoint, name: str, network: bool) -> Path | None:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging

    cached = try_to_load_from_cache(checkpoint.repository, name, revision=checkpoint.revision)
    if isinstance(cached, str):
        return Path(cached)
    if not network:
        return None
    logging.set_verbosity_error()  # what goes wrong is said once, in our own words
    try:
        return Path(hf_hub_download(checkpoint.repository, name, revision=checkpoint.revision))
    except (GatedRepoError, LocalEntryNotFoundError):
        return None
    except HfHubHTTPError as error:
        reason = str(error).splitlines()[0]
        raise EnvironmentTroubleError(f"{checkpoint.id}: {name} cannot be fetched from the hub: {reason}") from None


def _token() -> str | None:
    if not any(os.environ.get(name) for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")):
        home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
        if not Path(os.environ.get("HF_TOKEN_PATH", home / "token")).is_file():
            return None
    from huggingface_hub import get_token

    return get_token()


def _source(origin: str, files: Mapping[str, Path]) -> Source:
    return Source("trained", origin, files, {name: input_digest(path) for name, path in files.items()})


def input_digest(path: Path) -> str:
    """Return the sha256 of an input file, in hex; one that has not been touched is read once in a process."""
    stat = path.stat()
    return _input_digest(path, stat.st_size, stat.st_mtime_ns)


@cache
def _input_digest(path: Path, size: int, mtime_ns: int) -> str:
    return file_digest(path)


def _instructions(checkpoint: Checkpoint, alternatives: Sequence[Sequence[str]], folder: Path | None) -> str:
    wanted = " or ".join(" + ".join(names) for names in alternatives)
    looked = f"{folder / checkpoint.id} has no {wanted}" if folder else "no --weights-dir was given"
    ways = [f"put {wanted} into DIR/{checkpoint.id}/ and give --weights-dir DIR", "use --weights synthetic"]
    if checkpoint.hub_files:
        looked += f", and {checkpoint.repository}@{checkpoint.revision[:12]} is neither cached nor to be fetched"
        gate = (
            f"accept the conditions on https://huggingface.co/{checkpoint.repository} and " if checkpoint.gated else ""
        )
        ways.insert(0, f"{gate}set HF_TOKEN or run `hf auth login`")
    return f"{checkpoint.id}: no weights: {looked}. Either {', or '.join(ways)}."
