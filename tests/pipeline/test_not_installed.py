"""A format whose optional dependency is not installed: its variants are not run, and asking for them is an error.

The dependency is really not to be had: an interpreter that finds a `None` for a module in `sys.modules` refuses to
import it, as if it were not installed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.code import ROOT
from tests.fixtures import FIXTURES, needs_fixtures
from tests.pipeline.conftest import Ran

MATRIX = """
checkpoints:
  segmentation-3.0: {network: segmentation, licence: MIT}
variants:
  apple:
    checkpoint: [segmentation-3.0]
    file: Segmentation
    form: {window_s: 2}
    checks: [size]
    limits: {size.package: {most: 4, unit: MB, reason: what a phone downloads}}
    axes: {format: {coreml: {}}}
  runtime:
    checkpoint: [segmentation-3.0]
    file: Segmentation
    format: onnx
    form: {window_s: 2}
    checks: [size]
    limits: {size.package: {most: 7, unit: MB, reason: what an app ships}}
    axes: {format: {onnx: {}}, precision: {fp32: {}, fp16: {convert: {precision: fp16}}}}
"""
COMMAND = "pip install -e '.[onnx]'"


def _build(folder: Path, *arguments: str, without: str = "onnxruntime") -> Ran:
    """Run the command in an interpreter that cannot import a package."""
    (folder / "variants.yaml").write_text(MATRIX)
    code = (
        f"import sys; sys.modules[{without!r}] = None; sys.path.insert(0, {str(ROOT)!r});"
        "import build_all_variants; sys.exit(build_all_variants.main(sys.argv[1:]))"
    )
    options = ["--matrix", str(folder / "variants.yaml"), "--out", str(folder / "out"), "--jobs", "1"]
    options += ["--weights-dir", str(FIXTURES)]
    command = [sys.executable, "-c", code, *options, *arguments]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


@needs_fixtures
def test_the_rest_of_the_matrix_is_built(tmp_path: Path) -> None:
    """Variants that lack their format are counted as not run, with what to type, and no pass; the others are built."""
    ran = _build(tmp_path)
    assert ran.status == 0, ran.err
    assert f"not run: 2 variants of format onnx: {COMMAND}" in ran.out
    rows = {line.split()[0]: line.split()[-1] for line in ran.out.splitlines() if line.startswith("segmentation-3.0/")}
    assert rows["segmentation-3.0/coreml"] == "pass"
    table = [line for line in ran.out.splitlines() if line.startswith("segmentation-3.0/onnx") and "....." not in line]
    assert [line.split()[-2:] for line in table] == [["not", "run"]] * 2
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert [entry["variant"] for entry in index["variants"]] == ["segmentation-3.0/coreml"]


@needs_fixtures
def test_the_document_says_so_too(tmp_path: Path) -> None:
    """Each by name, with its reason, and without results."""
    ran = _build(tmp_path, "--json", "--until", "weights")
    assert (ran.status, ran.document["status"]) == (0, 0), ran.err
    absent = [entry for entry in ran.document["variants"] if "onnx" in entry["variant"]]
    assert [entry["verdict"] for entry in absent] == ["not run"] * 2
    assert {entry["reason"] for entry in absent} == {COMMAND}


@pytest.mark.parametrize("pattern", ["segmentation-3.0/onnx-fp16", "segmentation-3.0/onnx*", "*/onnx-fp*"])
@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_asking_for_them_by_name_is_an_error(tmp_path: Path, pattern: str, package: str) -> None:
    """Of the command line, with the same command to type; nothing is built, of other patterns neither."""
    ran = _build(tmp_path, "segmentation-3.0/coreml", pattern, without=package)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == f"'{pattern}': not installed; run: {COMMAND} (for onnx)\n"
    assert not (tmp_path / "out").exists()


def test_they_can_be_listed(tmp_path: Path) -> None:
    """A list builds nothing, and needs nothing."""
    ran = _build(tmp_path, "--list", "*/onnx*")
    assert (ran.status, ran.out.split()) == (0, ["segmentation-3.0/onnx-fp32", "segmentation-3.0/onnx-fp16"])
