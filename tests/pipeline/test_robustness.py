"""Everything that can be wrong outside our code is one clear sentence, the documented status, and nothing half-made."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.code import ROOT
from tests.fixtures import FIXTURES, needs_fixtures
from tests.pipeline.conftest import Ran

Quern = Callable[..., Ran]
pytestmark = needs_fixtures


def refused(ran: Ran, status: int, *words: str) -> None:
    """Assert the status, that the words are said, and that there is no traceback."""
    told = ran.out + ran.err
    assert ran.status == status, told
    assert "Traceback" not in told
    for word in words:
        assert word in told


def weights(folder: Path, content: bytes, name: str = "model.safetensors") -> Path:
    (folder / "segmentation-3.0").mkdir(parents=True)
    (folder / "segmentation-3.0" / name).write_bytes(content)
    return folder


def test_a_truncated_checkpoint(quern: Quern, tmp_path: Path) -> None:
    """The file is named, and no artifact appears."""
    whole = (FIXTURES / "segmentation-3.0" / "model.safetensors").read_bytes()
    folder = weights(tmp_path / "w", whole[: len(whole) // 2])
    refused(quern("--out", tmp_path / "o", "--weights-dir", folder), 2, "model.safetensors")
    assert not list((tmp_path / "o").glob("segmentation-3.0/*"))


def test_a_foreign_checkpoint(quern: Quern, tmp_path: Path) -> None:
    """Tensors of another network are refused by name."""
    import numpy as np
    from safetensors.numpy import save

    folder = weights(tmp_path / "w", save({"encoder.weight": np.zeros((4, 4), np.float32)}))
    refused(quern("--out", tmp_path / "o", "--weights-dir", folder), 2, "model.safetensors")


def test_a_hostile_pickle_runs_nothing(quern: Quern, tmp_path: Path) -> None:
    """A `.bin` that wants to run a command is read as data, or refused; the command is never run."""
    import pickle
    import zipfile

    class Hostile:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {tmp_path / 'owned'}",)

    folder = weights(tmp_path / "w", b"", "pytorch_model.bin")
    with zipfile.ZipFile(folder / "segmentation-3.0" / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": Hostile()}))
        archive.writestr("archive/version", "3\n")
    refused(quern("--out", tmp_path / "o", "--weights-dir", folder), 2, "pytorch_model.bin")
    assert not (tmp_path / "owned").exists()


def test_an_unreadable_recording(quern: Quern, tmp_path: Path) -> None:
    """A file that is no audio is named."""
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "noise.wav").write_bytes(b"RIFF but no more")
    ran = quern(
        "--audio", tmp_path / "audio", "--out", tmp_path / "o", "--weights", "synthetic", "segmentation-3.0/fp16"
    )
    refused(ran, 2, "noise.wav")


def test_a_folder_without_recordings(quern: Quern, tmp_path: Path) -> None:
    """--audio must hold something."""
    (tmp_path / "audio").mkdir()
    refused(quern("--audio", tmp_path / "audio", "--out", tmp_path / "o"), 4, "no recordings")


def test_an_unwritable_folder(quern: Quern) -> None:
    """Even for root, nothing can be made in /proc."""
    refused(quern("--out", "/proc/quern", "--weights-dir", FIXTURES), 4, "/proc/quern")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of three megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(quern: Quern, small_disk: Path) -> None:
    """One sentence, status 4, and no half entry."""
    refused(quern("--out", small_disk / "o", "--weights-dir", FIXTURES, "--jobs", 1), 4, "No space left on device")
    assert all((entry / "recipe.json").is_file() for entry in small_disk.glob("o/.store/[0-9a-f]*"))


def test_a_mistake_in_the_matrix(quern: Quern, matrix: Path, tmp_path: Path) -> None:
    """All mistakes at once, with their paths."""
    path = tmp_path / "variants.yaml"
    path.write_text(matrix.read_text().replace("nbits", "nbit").replace("window_s", "window"))
    refused(quern("--matrix", path), 2, "did you mean 'nbits'?", "did you mean 'window_s'?")


def test_what_went_wrong_is_a_document_too(quern: Quern) -> None:
    """Whoever reads --json reads the reason there, with the status."""
    ran = quern("--weights", "real", "--json")
    assert ran.status == 4
    assert ran.document["status"] == 4
    assert ran.document["error"].startswith("segmentation-3.0: no weights: no --weights-dir was given")


@pytest.mark.parametrize("nbits", ["5", "x"])
def test_a_width_no_palette_can_have(quern: Quern, nbits: str) -> None:
    """The variable is named with what it was."""
    refused(quern("--list", PALETTIZE_NBITS=nbits), 2, f"PALETTIZE_NBITS={nbits}")


def test_the_environment_selects_width_and_folder(quern: Quern, tmp_path: Path) -> None:
    """PALETTIZE_NBITS and OUT_DIR are how the scripts that this replaces were called; --out wins."""
    assert quern("--list", PALETTIZE_NBITS="6").out == "segmentation-3.0/w6\n"
    assert quern("--list", PALETTIZE_NBITS="0").out == "segmentation-3.0/fp16\n"
    options = ["--weights", "synthetic", "--until", "weights", "segmentation-3.0/fp16"]
    assert quern(*options, OUT_DIR=str(tmp_path / "a")).status == 0
    assert (tmp_path / "a" / ".store").is_dir()
    assert quern(*options, "--out", tmp_path / "b", OUT_DIR=str(tmp_path / "c")).status == 0
    assert (tmp_path / "b" / ".store").is_dir()
    assert not (tmp_path / "c").exists()


def test_help_teaches(quern: Quern) -> None:
    """Every way in is there, with the exit statuses and examples."""
    ran = quern("--help")
    for word in ("PALETTIZE_NBITS", "OUT_DIR", "built fp16 then", "exit status", "examples", "--keep-going", "130"):
        assert word in ran.out


def test_one_variant_that_cannot_be_built_does_not_hide_the_others(quern: Quern, matrix: Path, tmp_path: Path) -> None:
    """With --keep-going the others are built; the status is that of the one that broke."""
    path = tmp_path / "variants.yaml"
    path.write_text(matrix.read_text().replace("        fp16: {}", "        fp16: {form: {classes: 3}}"))
    options = ["--matrix", path, "--weights-dir", FIXTURES, "--jobs", 1, "--until", "convert"]
    stopped = quern(*options, "--out", tmp_path / "a")
    refused(stopped, 2, "declare classes: 7")
    assert "segmentation-3.0/w6 ." not in stopped.out
    refused(quern(*options, "--out", tmp_path / "b", "--keep-going"), 2, "segmentation-3.0/w6 .", "unverified")


@pytest.mark.slow
def test_two_builds_at_once_share_the_work(matrix: Path, audio: Path, tmp_path: Path) -> None:
    """Both end well, with the same artifacts, and nothing is left over."""
    command = [
        sys.executable, ROOT / "build_all_variants.py", "--matrix", matrix, "--audio", audio, "--jobs", "1",
        "--out", tmp_path / "o", "--weights-dir", FIXTURES, "segmentation-3.0/fp16",
    ]  # fmt: skip
    builds = [subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [build.communicate()[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0], told
    assert not list((tmp_path / "o" / ".store" / ".tmp").iterdir())
    assert [path.name for path in (tmp_path / "o" / "segmentation-3.0").iterdir()] == ["fp16"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are read from /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_build_that_is_killed_takes_its_workers_with_it(
    matrix: Path, audio: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """A runner that gives up on a build is not left with processes that go on computing for nobody."""
    command = [
        sys.executable, ROOT / "build_all_variants.py", "--matrix", matrix, "--audio", audio, "--jobs", "2",
        "--out", tmp_path / "o", "--weights-dir", FIXTURES, "segmentation-3.0/fp16", "segmentation-3.0/w6",
    ]  # fmt: skip
    build = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    waited(lambda: len(processes(build.pid)) >= 3)  # two workers, and the one that passes on what they say
    started = processes(build.pid)
    build.send_signal(number)
    build.wait()
    waited(lambda: not started & processes())


def processes(parent: int | None = None) -> set[int]:
    """Return the processes that run, of one parent or all; not those that have ended and wait to be noticed."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, its_parent = path.read_text().rpartition(")")[2].split()[:2]
            if state != "Z" and parent in (None, int(its_parent)):
                found.add(int(path.parent.name))
    return found


def waited(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)
