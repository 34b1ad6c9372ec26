"""A model card tells what was built, measured and not run, and its snippets do what they say."""

import ast
import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline import cards, provenance
from pipeline.code import ROOT
from pipeline.publish.licences import known
from tests.hub import running
from tests.pipeline.releases import REPOSITORY, planned, write


@pytest.fixture(scope="module")
def release(built: Path, audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a release."""
    home = tmp_path_factory.mktemp("cards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUERN_REFERENCES", str(home / "references"))
        [found] = planned(built, audio, home).releases
    return write(found, home / "release")


@pytest.fixture
def document(release: Path) -> dict:
    """Return the provenance of the release, which a test may change."""
    return copy.deepcopy(provenance.read(release))


def front_matter(card: str) -> dict:
    _, front, _ = card.split("---\n", 2)
    return yaml.safe_load(front)


def snippets(card: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", card, re.DOTALL)


def test_the_hub_can_read_the_licence_and_the_library(release: Path) -> None:
    """The YAML that the hub's filters and badges are made of."""
    front = front_matter((release / "README.md").read_text())
    assert front == {"license": "mit", "library_name": "coreml", "tags": ["speaker-diarization", "coreml"]}


def test_two_licences_are_both_named(document: dict) -> None:
    """A repository of several checkpoints has no licence of its own, and says which there are."""
    another = document["inputs"][0] | {"id": "b", "licence": "CC-BY-4.0", "repository": "us/b", "revision": "b" * 40}
    document["inputs"].append(another)
    card = cards.card(document)
    front = front_matter(card)
    assert (front["license"], front["license_name"]) == ("other", "cc-by-4.0-and-mit")
    assert front["base_model"] == ["us/b"]
    assert f"| b | [us/b](https://huggingface.co/us/b/tree/{'b' * 40}) | [CC-BY-4.0]" in card
    assert known()["CC-BY-4.0"].attribution in card


def test_numbers_are_those_of_the_files_and_the_checks(release: Path, document: dict) -> None:
    """Sizes are summed over the files, measurements stand with their limits, and both change with them."""
    card = (release / "README.md").read_text()
    package = release / "w6" / "pyannote_segmentation.mlpackage"
    size_mb = sum(path.stat().st_size for path in package.rglob("*") if path.is_file()) / 1e6
    assert (
        f"| `w6/pyannote_segmentation.mlpackage` | segmentation-3.0 | {cards.SYSTEMS['iOS17']} | {size_mb:.2f} |"
        in card
    )
    checks = {check["name"]: check for check in document["artifacts"][1]["checks"]}
    measured = checks["parity.argmax"]["measured"]
    assert f"{measured:.6g} (≥ 0.9)" in card
    checks["parity.argmax"]["measured"] = 0.123456
    assert "0.123456 (≥ 0.9)" in cards.card(document)


def test_what_was_not_run_is_told_with_its_reason(release: Path) -> None:
    """Nobody may take for measured what was not."""
    card = (release / "README.md").read_text()
    assert "| placement.loads | needs macOS | 2 models |" in card
    assert "measured on another machine" not in card


def test_what_another_machine_measured_is_told(document: dict) -> None:
    """The system, the chip and the day."""
    host = {"system": "macOS", "version": "26.1", "machine": "arm64", "chip": "Apple M4", "day": "2026-11-20"}
    for artifact in document["artifacts"]:
        artifact["checks"][-1] |= {"measured": 4, "outcome": "pass", "measured_on": host}
    card = cards.card(document)
    assert f"| macOS 26.1 | Apple M4 | 2026-11-20 | {document['artifacts'][0]['checks'][-1]['name']} |" in card
    assert "What was not run" not in card


def test_a_note_cannot_break_a_table(document: dict) -> None:
    """A bar or a line break in a reason stays in its cell."""
    document["artifacts"][0]["checks"][-1] |= {"outcome": "not run", "note": "a | b\nc"}
    assert "| a \\| b c | 1 model |" in cards.card(document)


def test_every_python_snippet_is_python_and_names_files_that_are_there(release: Path) -> None:
    """Both the one for a Mac and the one for any machine."""
    found = snippets((release / "README.md").read_text(), "python")
    assert len(found) == 2
    for snippet in found:
        [file] = re.findall(r'path = f"\{folder\}/(.*)"', snippet)
        assert (release / file).is_dir()
        ast.parse(snippet)


def test_the_python_snippet_loads_and_runs_what_it_downloads(release: Path, tmp_path: Path) -> None:
    """The one for any machine is run as it stands, against a hub that holds the release."""
    [_, snippet] = snippets((release / "README.md").read_text(), "python")
    files = {str(p.relative_to(release)): p.read_bytes() for p in release.rglob("*") if p.is_file()}
    with running() as hub:
        hub.put(REPOSITORY, files)
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("HF_", "HUGGING"))}
        environment = kept | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        code = f"{snippet}\nimport json; print(json.dumps({{n: a.shape for n, a in outputs.items()}}))"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
        )
    assert done.returncode == 0, done.stderr
    [output] = provenance.read(release)["artifacts"][0]["outputs"]
    assert json.loads(done.stdout.splitlines()[-1]) == {output["name"]: output["shape"]}
    assert not any(".mlmodelc" in request for request in hub.asked if "/resolve/" in request)


def test_the_swift_snippet_names_what_is_there(release: Path, document: dict) -> None:
    """The bundle, every input with its shape and type, every output; quotes and brackets are closed."""
    [snippet] = snippets((release / "README.md").read_text(), "swift")
    [file] = re.findall(r'URL\(fileURLWithPath: "(.*)"\)', snippet)
    assert (release / file / "coremldata.bin").is_file()
    assert "let audio = try MLMultiArray(shape: [1, 1, 32000], dataType: .float32)" in snippet
    assert 'outputs.featureValue(for: "segments")' in snippet
    assert "configuration.computeUnits = .cpuAndNeuralEngine" in snippet
    assert all(snippet.count(opened) == snippet.count(closed) for opened, closed in ("()", "[]", "{}"))
    assert snippet.count('"') % 2 == 0


def test_recommended_compute_units_are_told_with_their_source(release: Path, document: dict) -> None:
    """In a table, in the snippet for a Mac, and nowhere where nobody recommends any."""
    card = (release / "README.md").read_text()
    models = ", ".join(f"`{artifact['variant']}`" for artifact in document["artifacts"])
    assert f"| {models} | `cpuAndNeuralEngine` | a paper |" in card
    assert "coremltools.models.MLModel(path, compute_units=coremltools.ComputeUnit.CPU_AND_NE)" in card
    for artifact in document["artifacts"]:
        artifact["compute_units"] = {}
    assert "cpuAndNeuralEngine" not in cards.card(document)
    assert "configuration.computeUnits = .all" in cards.card(document)


def test_an_onnx_artifact_is_loaded_by_onnxruntime(document: dict) -> None:
    """Another format, another library; and no Swift."""
    for artifact in document["artifacts"]:
        artifact |= {"format": "onnx", "path": "o", "files": {"o/model.onnx": {"sha256": "0" * 64, "size_bytes": 1}}}
    card = cards.card(document)
    [snippet] = snippets(card, "python")
    ast.parse(snippet)
    assert 'path = f"{folder}/o/model.onnx"' in snippet
    assert snippets(card, "swift") == []


def test_a_length_that_the_caller_chooses_is_shown_as_a_range(document: dict) -> None:
    """And a snippet takes the shortest."""
    [tensor] = document["artifacts"][0]["inputs"]
    tensor["shape"][0] = {"low": 1, "high": 32}
    card = cards.card(document)
    assert "1–32 batch × 1 channel × 32000 sample" in card
    assert "np.zeros((1, 1, 32000), np.float32)" in snippets(card, "python")[0]
