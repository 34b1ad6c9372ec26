import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mil
from mil.decompile import decompile_bundle
from pipeline.code import ROOT
from tests.fixtures import FIXTURES, needs_fixtures
from tests.pipeline.conftest import Ran

Quern = Callable[..., Ran]
pytestmark = [needs_fixtures, pytest.mark.slow]


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file of the reproducible part of an artifact's folder."""
    skipped = ("run.json", "checks.json")
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in skipped)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_an_artifact_is_a_folder_with_all_it_needs(built: Path) -> None:
    """Package, bundle, and the three records stand where the contract says."""
    folder = built / "segmentation-3.0" / "w6"
    assert sorted(path.name for path in folder.iterdir()) == [
        "checks.json", "manifest.json", "pyannote_segmentation.mlmodelc", "pyannote_segmentation.mlpackage", "run.json",
    ]  # fmt: skip
    assert (folder / "pyannote_segmentation.mlmodelc" / "coremldata.bin").is_file()


def test_package_and_bundle_share_their_weights(built: Path) -> None:
    """One file on disk under two names."""
    folder = built / "segmentation-3.0" / "fp16"
    [package] = folder.glob("*.mlpackage/**/weight.bin")
    [bundle] = folder.glob("*.mlmodelc/**/weight.bin")
    assert package.stat().st_ino == bundle.stat().st_ino


@pytest.mark.parametrize("variant", ["fp16", "w6"])
def test_package_bundle_and_what_comes_back_say_the_same(built: Path, tmp_path: Path, variant: str) -> None:
    """Compiled, and decompiled again, a program gives the same outputs, bit for bit, and is the same program."""
    folder = built / "segmentation-3.0" / variant
    package, bundle = folder / "pyannote_segmentation.mlpackage", folder / "pyannote_segmentation.mlmodelc"
    decompile_bundle(bundle, tmp_path / "back.mlpackage")
    programs = [mil.load(path) for path in (package, bundle, tmp_path / "back.mlpackage")]
    assert programs[0].spec == programs[2].spec
    audio = np.random.default_rng(0).normal(size=(1, 1, 32000)).astype(np.float32)
    first, *others = (program.run({"audio": audio})["segments"] for program in programs)
    assert all(np.array_equal(first, other) for other in others)


def test_the_manifest_tells_what_it_is_and_nothing_of_this_run(built: Path) -> None:
    """Inputs, outputs, sources, steps and files; no clock, no host, no measured number."""
    facts = json.loads((built / "segmentation-3.0" / "w6" / "manifest.json").read_text())
    assert facts["checkpoint"]["weights"] == "trained"
    assert facts["checkpoint"]["files"].keys() == {"model.safetensors"}
    assert [tensor["name"] for tensor in (*facts["inputs"], *facts["outputs"])] == ["audio", "segments"]
    assert facts["optimize"][0]["options"]["nbits"] == 6
    folder = built / "segmentation-3.0" / "w6"
    listed = {str(path.relative_to(folder)) for path in folder.glob("pyannote*/**/*") if path.is_file()}
    assert facts["files"].keys() == listed
    assert str(built) not in json.dumps(facts)


def test_every_limit_has_one_of_three_outcomes(built: Path) -> None:
    """What needs a Mac is not run, with the reason, and is never a pass."""
    results = {r["name"]: r for r in json.loads((built / "segmentation-3.0" / "w6" / "checks.json").read_text())}
    assert results["alias.bundle"]["outcome"] == "pass"
    assert results["parity.argmax"]["outcome"] == "pass"
    assert results["parity.argmax"]["detail"]["frames"] > 300
    if sys.platform != "darwin":
        assert (results["placement.loads"]["outcome"], results["placement.loads"]["note"]) == ("not run", "needs macOS")


def test_a_second_build_does_nothing(built: Path, quern: Quern) -> None:
    """No step is begun, no file is touched, and no heavy library is imported."""
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*") if path.is_file()}
    ran = quern("--out", built, "--weights-dir", FIXTURES, "--json")
    assert ran.status == 0
    assert all(step["seconds"] is None for variant in ran.document["variants"] for step in variant["steps"])
    after = {path: path.stat().st_mtime_ns for path in built.rglob("*") if path.is_file()}
    changed = {path.name for path in after if after[path] != before.get(path)}
    assert changed <= {"index.json", ".in-use"}


def test_a_build_that_does_nothing_imports_nothing_heavy(built: Path, matrix: Path, audio: Path) -> None:
    """torch, coremltools and numba take seconds to import, and nothing needs them."""
    code = (
        "import sys, build_all_variants as b; status = b.main(sys.argv[1:]);"
        "print(status, [m for m in ('torch', 'coremltools', 'numba', 'onnx') if m in sys.modules])"
    )
    arguments = ["--matrix", matrix, "--audio", audio, "--out", built, "--weights-dir", FIXTURES]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"


def test_json_is_one_document_and_nothing_else(built: Path, quern: Quern) -> None:
    """Progress goes to the other stream."""
    ran = quern("--out", built, "--weights-dir", FIXTURES, "--json", "segmentation-3.0/w6")
    [variant] = ran.document["variants"]
    assert (variant["variant"], variant["verdict"]) == ("segmentation-3.0/w6", "pass")
    assert "segmentation-3.0/w6 ..." in ran.err


def test_an_impossible_limit_fails_and_names_the_worst_window(
    copied: Path, quern: Quern, matrix: Path, tmp_path: Path
) -> None:
    """Exit 1, the measured value, the limit and the window; and nothing is measured again."""
    text = matrix.read_text().replace(
        "parity.argmax_worst_window: {least: 0.5", "parity.argmax_worst_window: {least: 1.1"
    )
    (tmp_path / "variants.yaml").write_text(text)
    ran = quern("--matrix", tmp_path / "variants.yaml", "--out", copied, "--weights-dir", FIXTURES)
    assert ran.status == 1
    assert "parity.argmax_worst_window" in ran.out
    assert "limit ≥ 1.1: window sample@" in ran.out


def test_explain_shows_the_recipe_that_changed(built: Path, quern: Quern, matrix: Path, tmp_path: Path) -> None:
    """A rebuild is explained as a difference of recipes, and nothing is built."""
    (tmp_path / "variants.yaml").write_text(matrix.read_text().replace("nbits: 6", "nbits: 4"))
    ran = quern("--matrix", tmp_path / "variants.yaml", "--out", built, "--weights-dir", FIXTURES, "--explain")
    assert ran.status == 0
    assert ran.out.splitlines() == [
        "segmentation-3.0/fp16: up to date",
        "segmentation-3.0/w6: palettize: options.nbits: 6 -> 4",
    ]


def test_a_build_elsewhere_gives_the_same_bytes(built: Path, quern: Quern, tmp_path: Path) -> None:
    """Another folder, another hash seed, another day, another processor: the same files."""
    ran = quern(
        "segmentation-3.0/w6", "--out", tmp_path / "elsewhere", "--weights-dir", FIXTURES, "--jobs", 1,
        PYTHONHASHSEED="7", ATEN_CPU_CAPABILITY="default", NPY_DISABLE_CPU_FEATURES="AVX2 FMA3", TZ="Asia/Tokyo",
    )  # fmt: skip
    assert ran.status == 0, ran.out + ran.err
    name = Path("segmentation-3.0") / "w6"
    assert tree(tmp_path / "elsewhere" / name) == tree(built / name)


def test_a_killed_build_is_resumed(quern: Quern, matrix: Path, audio: Path, tmp_path: Path) -> None:
    """After kill -9 there are only whole entries, and the next run takes them and goes on."""
    arguments = ["--matrix", matrix, "--audio", audio, "--out", tmp_path, "--weights-dir", FIXTURES, "--jobs", 1]
    command = [sys.executable, ROOT / "build_all_variants.py", *arguments, "--until", "compile"]
    build = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, start_new_session=True)
    while not list(tmp_path.glob(".store/*/weights.safetensors")):
        time.sleep(0.05)
    os.killpg(build.pid, signal.SIGKILL)
    build.wait()
    assert all((entry / "recipe.json").is_file() for entry in tmp_path.glob(".store/[0-9a-f]*"))
    ran = quern("--out", tmp_path, "--weights-dir", FIXTURES, "--until", "compile", "--json", "--jobs", 1)
    assert ran.status == 0
    steps = {step["name"]: step["seconds"] for step in ran.document["variants"][0]["steps"]}
    assert steps["weights"] is None
    assert steps["convert"] is not None


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupted_build_says_so(matrix: Path, audio: Path, tmp_path: Path, jobs: str) -> None:
    """Control-C is status 130 and one sentence, however many work side by side, and nobody works on."""
    command = [
        sys.executable, ROOT / "build_all_variants.py", "--matrix", matrix, "--audio", audio, "--out", tmp_path,
        "--weights-dir", FIXTURES, "--jobs", jobs,
    ]  # fmt: skip
    build = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    while not list(tmp_path.glob(".store/*/weights.safetensors")):
        time.sleep(0.05)
    os.killpg(build.pid, signal.SIGINT)
    told, _ = build.communicate(timeout=60)
    assert build.returncode == 130, told
    assert told.rstrip().endswith("the next run goes on from there")


def test_an_altered_store_entry_is_found_and_rebuilt(copied: Path, quern: Quern) -> None:
    """--check-store hashes everything, says what was altered, and the build that follows makes it again."""
    package = next((copied / ".store").glob("*/*.mlmodelc/model.mil"))
    package.chmod(0o644)
    package.write_text("program(1.0)")
    ran = quern("--out", copied, "--weights-dir", FIXTURES, "--check-store", "--jobs", 1)
    assert ran.status == 0, ran.out + ran.err
    assert "not what was stored" in ran.err
    assert package.read_text() != "program(1.0)"


def test_prune_drops_what_no_variant_needs(copied: Path, quern: Quern) -> None:
    """An entry nobody asks for goes; everything that is asked for stays."""
    stray = copied / ".store" / ("0" * 64)
    stray.mkdir()
    (stray / "recipe.json").write_text("{}")
    assert quern("--out", copied, "--weights-dir", FIXTURES, "--prune").status == 0
    assert not stray.exists()
    ran = quern("--out", copied, "--weights-dir", FIXTURES, "--json")
    assert all(step["seconds"] is None for variant in ran.document["variants"] for step in variant["steps"])
