"""What the README shows is run, on one variant, and its table names only what is declared."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.code import ROOT
from pipeline.config import read_matrix
from tests.fixtures import FIXTURES, needs_fixtures

README = (ROOT / "README.md").read_text()
VARIANT = "segmentation-3.0/w6"


def run(command: str, folder: Path) -> str:
    """Run a command of the README as it stands, with this Python, and with fixtures where it says so."""
    words = shlex.split(command.replace("../shared/fixtures", str(FIXTURES)), comments=True)
    assert words[0] == "python"
    done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commands(prefix: str) -> list[str]:
    found = re.findall(rf"^\$ ({prefix}.*)$", README, re.MULTILINE) + re.findall(rf"`({prefix}[^`]*)`", README)
    assert found, f"the README shows no command that begins with {prefix!r}"
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


@needs_fixtures
@pytest.mark.slow
def test_the_build_commands_do_what_the_readme_says(out: Path) -> None:
    """The one that builds is run as it stands; the others, on what it built."""
    [build, *others] = sorted(commands("python build_all_variants.py"), key=lambda c: VARIANT not in c)
    told = run(f"{build} --out {out}", ROOT)
    assert f"{VARIANT} ..." in told
    for command in others:
        run(f"{command} '{VARIANT}' --weights-dir ../shared/fixtures --out {out}", ROOT)
    assert {path.name for path in (out / VARIANT).iterdir()} >= {"manifest.json", "checks.json", "run.json"}


@needs_fixtures
@pytest.mark.slow
def test_the_mil_commands_do_what_the_readme_says(out: Path, tmp_path: Path) -> None:
    """Each command line, in order, in a folder that holds the files it names."""
    if not (out / VARIANT).is_dir():
        pytest.skip("the build of the test before is not there")
    package = out / VARIANT / "pyannote_segmentation.mlpackage"
    for name in ("model.mlpackage", "a.mlpackage", "b.mlpackage"):
        (tmp_path / name).symlink_to(package)
    np.save(tmp_path / "audio.npy", np.zeros((1, 1, 160000), np.float32))
    for command in commands("python -m mil"):
        command = command.split("#")[0]
        if "decompile" in command:
            command = command.replace("model.mlmodelc", "build/model.mlmodelc").replace("--out model", "--out again")
        words = shlex.split(command)
        done = subprocess.run(
            [sys.executable, *words[1:]], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=False
        )
        assert done.returncode == 0, (command, done.stderr)


@needs_fixtures
@pytest.mark.slow
def test_the_other_commands_do_what_the_readme_says(out: Path, tmp_path: Path) -> None:
    """Diarization, the checks and the passes by hand, in a folder that holds what they name."""
    if not (out / VARIANT).is_dir():
        pytest.skip("the build of the test before is not there")
    import soundfile

    samples, rate_hz = soundfile.read(FIXTURES / "audio" / "sample.wav", stop=12 * 16000)
    (tmp_path / "recordings").mkdir()
    for name in ("talk.wav", "recordings/sample.wav"):
        soundfile.write(tmp_path / name, samples, rate_hz)
    (tmp_path / "recordings" / "sample.rttm").write_text((FIXTURES / "audio" / "sample.rttm").read_text())
    (tmp_path / "artifacts").symlink_to(out)
    for name in ("model.mlpackage", "old.mlpackage", "new.mlpackage"):
        (tmp_path / name).symlink_to(out / VARIANT / "pyannote_segmentation.mlpackage")
    (tmp_path / "diarize.py").symlink_to(ROOT / "diarize.py")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    prefixes = ("python diarize", "python -m verify [^p]", "python -m optimizations")
    for command in (command for prefix in prefixes for command in commands(prefix)):
        words = shlex.split(command, comments=True)
        done = subprocess.run(
            [sys.executable, *words[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert (tmp_path / "talk.rttm").read_text().startswith("SPEAKER talk 1 ")
    assert (tmp_path / "pictures" / "talk.svg").is_file()


def test_the_table_names_only_what_is_declared() -> None:
    """A row of the table is a variant of variants.yaml, and the usual variants of the trained checkpoint have one."""
    rows = re.findall(r"^\| `([^`]+/[^`]+)` \| ", README, re.MULTILINE)
    declared = {variant.id for variant in read_matrix(ROOT / "variants.yaml").variants}
    assert set(rows) <= declared
    usual = ("fp16", "w8", "w6", "w4", "m6", "q8", "onnx-fp32", "onnx-fp16", "onnx-int8", "gguf-fp32", "gguf-fp16")
    assert {f"segmentation-3.0/{name}" for name in usual} <= set(rows)


def test_the_examples_of_the_matrix_are_yaml_that_the_project_reads(tmp_path: Path) -> None:
    """What docs/variants.md tells a user to add is added to our own file, and gives the variants that it promises."""
    text = (ROOT / "variants.yaml").read_text()
    text = text.replace("checkpoints:\n", "checkpoints:\n  my-meetings: {network: segmentation, licence: MIT}\n", 1)
    text = text.replace("segmentation-community-1]", "segmentation-community-1, my-meetings]", 1)
    text = text.replace("      form:\n", "      form:\n        20s: {form: {window_s: 20}}\n", 1)
    (tmp_path / "variants.yaml").write_text(text)
    ids = {variant.id for variant in read_matrix(tmp_path / "variants.yaml").variants}
    assert {"my-meetings/w6", "my-meetings/fp16-20s", "segmentation-3.0/w8-20s"} <= ids
    documented = (ROOT / "docs" / "variants.md").read_text()
    for block in re.findall(r"```yaml\n(.*?)```", documented, re.DOTALL):
        assert yaml.safe_load(block)


def test_the_links_lead_somewhere() -> None:
    """Every page that the README points to exists."""
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target
