"""Reading `.nemo` archives: a tar file, compressed or not, with a model's configuration and its weights.

Nothing is unpacked to a path that the archive names, and of what it holds only `model_config.yaml` (by YAML's safe
loader) and the tensors of `model_weights.ckpt` are read. An archive that could do harm to one who unpacks it is
refused whole: NeMo never writes such a one.
"""

import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

import yaml

from converters.checkpoint import read_torch_archive
from pipeline.types import Arrays, QuernError

CONFIG, WEIGHTS = "model_config.yaml", "model_weights.ckpt"

_LARGEST_CONFIG = 2**20
# Trained numbers hardly compress, so an archive that unpacks to more than this many times its size is no checkpoint.
_LARGEST_EXPANSION = 16

_LONGEST_CHAIN = 8  # references to references


def read_nemo(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Return the configuration and the tensors by name, read-only, of a `.nemo` archive.

    Raises QuernError, one sentence with the file's name, for whatever is no such archive.
    """
    try:
        mode: Literal["r:gz", "r:"] = "r:gz" if _is_compressed(path) else "r:"
        with tarfile.open(path, mode) as archive:
            members = _members(archive, path)
            config = _config(_opened(archive, members[CONFIG]).read(), f"{path}: {CONFIG}")
            with _seekable(_opened(archive, members[WEIGHTS]), path) as weights:
                return config, read_torch_archive(weights, f"{path}: {WEIGHTS}")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise QuernError(f"{path}: not a sound .nemo archive, which is a tar file ({error}); fetch it again") from None
    except OSError as error:
        raise QuernError(f"{path}: cannot read the checkpoint: {error.strerror or error}") from None


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as archive:
        return archive.read(2) == b"\x1f\x8b"


def _members(archive: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    """Return the two members that are read, of an archive that holds nothing but harmless files and folders."""
    found: dict[str, tarfile.TarInfo] = {}
    size = path.stat().st_size
    left = _LARGEST_EXPANSION * size
    for member in archive:
        name = PurePosixPath(member.name)
        shown = repr(member.name[:80])
        if name.is_absolute() or ".." in name.parts or "\\" in member.name:
            raise QuernError(f"{path}: {shown} would be unpacked outside of its folder; NeMo writes no such archive")
        if not (member.isfile() or member.isdir()) or member.issparse():
            raise QuernError(f"{path}: {shown} is neither a file nor a folder; NeMo writes no such archive")
        left -= member.size
        if left < 0:
            raise QuernError(f"{path}: {shown} claims {member.size} bytes, in an archive of {size}")
        if str(name) in found:
            raise QuernError(f"{path}: {shown} is in the archive twice")
        found[str(name)] = member
    missing = [name for name in (CONFIG, WEIGHTS) if name not in found or not found[name].isfile()]
    if missing:
        raise QuernError(f"{path}: no {' and no '.join(missing)} in the archive; expected a checkpoint of NeMo")
    if found[CONFIG].size > _LARGEST_CONFIG:
        raise QuernError(f"{path}: {CONFIG} is {found[CONFIG].size} bytes long; expected {_LARGEST_CONFIG} at most")
    return {name: found[name] for name in (CONFIG, WEIGHTS)}


def _opened(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    assert file is not None  # it is a file
    return file


@contextmanager
def _seekable(file: IO[bytes], path: Path) -> Iterator[Any]:
    """Yield the file where it can be read in any order, or an unnamed copy on disk of one within a compressed archive.

    Going backwards in a compressed archive means to decompress it again from its start.
    """
    if not _is_compressed(path):
        yield file
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(file, copy)
        copy.seek(0)
        yield copy


def _config(content: bytes, source: str) -> dict[str, Any]:
    try:
        config = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise QuernError(f"{source}: not plain YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(config, dict):
        raise QuernError(f"{source}: expected a mapping at its top")
    return config


def setting(config: dict[str, Any], path: str, default: Any = None) -> Any:
    """Return the value at a dotted path of a configuration, following references; `default` where there is none.

    A reference is a whole value, "${a.b}"; NeMo's configurations may begin it with "model.", which is their own top.
    """
    value: Any = config
    for _ in range(_LONGEST_CHAIN):
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if not (isinstance(value, str) and value.startswith("${") and value.endswith("}")):
            break
        path, value = value[2:-1].removeprefix("model."), config
    return default if value is None else value
