"""A release says where every byte of it comes from, and whether it is still what was released."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from pipeline import provenance
from pipeline.types import QuernError
from tests.fixtures import FIXTURES
from tests.pipeline.releases import planned, write
from verify.commands.line import main

WEIGHTS = "w6/pyannote_segmentation.mlmodelc/weights/weight.bin"


@pytest.fixture(scope="module")
def release(built: Path, audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a release."""
    home = tmp_path_factory.mktemp("provenance")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUERN_REFERENCES", str(home / "references"))
        [found] = planned(built, audio, home).releases
    return write(found, home / "release")


@pytest.fixture
def copy(release: Path, tmp_path: Path) -> Path:
    """Return a copy of the release that a test may damage."""
    return Path(shutil.copytree(release, tmp_path / "release"))


def findings(folder: Path, capsys: pytest.CaptureFixture) -> tuple[int, list[str]]:
    status = main(["provenance", "--json", str(folder)])
    [report] = json.loads(capsys.readouterr().out).values()
    return status, report["findings"]


def test_the_schema_is_one() -> None:
    """docs/provenance.schema.json is a JSON Schema of the draft that it names."""
    Draft202012Validator.check_schema(json.loads(provenance.SCHEMA.read_text()))


def test_inputs_artifacts_and_files_are_named_by_digest(release: Path) -> None:
    """The checkpoint's file, the recipe of each artifact and every file that is there."""
    document = provenance.read(release)
    [checkpoint] = document["inputs"]
    assert (checkpoint["id"], checkpoint["licence"], checkpoint["weights"]) == ("segmentation-3.0", "MIT", "trained")
    weights = FIXTURES / "segmentation-3.0" / "model.safetensors"
    assert checkpoint["files"] == {"model.safetensors": {"sha256": provenance.file_digest(weights)}}
    assert [artifact["variant"] for artifact in document["artifacts"]] == [
        "segmentation-3.0/fp16",
        "segmentation-3.0/w6",
    ]
    w6 = document["artifacts"][1]
    assert [step["stage"] for step in w6["steps"]] == ["weights", "convert", "optimize", "label", "compile"]
    assert w6["optimize"][0]["options"]["nbits"] == 6
    there = {str(path.relative_to(release)) for path in release.rglob("*") if path.is_file()}
    assert provenance.files(document).keys() == there - {"provenance.json"}


def test_a_check_that_did_not_run_is_told(release: Path) -> None:
    """With its reason, and without a number."""
    checks = {check["name"]: check for check in provenance.read(release)["artifacts"][0]["checks"]}
    assert checks["parity.argmax"]["outcome"] == "pass"
    assert checks["placement.loads"]["measured"] is None
    assert checks["placement.loads"]["outcome"] == "not run"


def test_an_intact_release_is_said_to_be(release: Path, capsys: pytest.CaptureFixture) -> None:
    """Status 0, the count of files, and the digest to compare with the one that was told at publishing."""
    assert main(["provenance", str(release)]) == 0
    told = capsys.readouterr().out
    assert f"intact, {len(provenance.files(provenance.read(release)))} files" in told
    assert provenance.digest(release) in told


@pytest.mark.parametrize("seed", range(4))
def test_one_flipped_bit_is_found(copy: Path, capsys: pytest.CaptureFixture, seed: int) -> None:
    """In any file, at any place: status 1, and the file is named."""
    chance = random.Random(seed)
    names = sorted(name for name, entry in provenance.files(provenance.read(copy)).items() if entry["size_bytes"])
    name = chance.choice(names)
    content = bytearray((copy / name).read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    (copy / name).write_bytes(content)
    status, [finding] = findings(copy, capsys)
    assert status == 1
    assert finding.startswith(f"{name}: altered: expected sha256")


def test_everything_that_is_wrong_is_named(copy: Path, capsys: pytest.CaptureFixture) -> None:
    """A file that is shorter, one that is missing, one that is added, and one that is a folder."""
    os.truncate(copy / WEIGHTS, 100)
    (copy / "README.md").unlink()
    (copy / "w6" / "stray.bin").write_bytes(b"")
    metadata = copy / "fp16" / "pyannote_segmentation.mlmodelc" / "metadata.json"
    metadata.unlink()
    metadata.mkdir()
    size = provenance.files(provenance.read(copy))[WEIGHTS]["size_bytes"]
    status, found = findings(copy, capsys)
    assert status == 1
    assert found == [
        "README.md: missing",
        "fp16/pyannote_segmentation.mlmodelc/metadata.json: missing",
        f"{WEIGHTS}: altered: expected {size} bytes, found 100",
        "w6/stray.bin: not part of the release",
    ]


def test_what_a_hub_puts_beside_a_release_is_not_a_finding(copy: Path, capsys: pytest.CaptureFixture) -> None:
    """A download has a cache and git's attributes."""
    (copy / ".cache" / "huggingface").mkdir(parents=True)
    (copy / ".cache" / "huggingface" / "README.md.metadata").write_text("")
    (copy / ".gitattributes").write_text("")
    assert findings(copy, capsys) == (0, [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("inputs"), "'inputs' is a required property"),
        (lambda d: d["files"].update({"../etc/passwd": d["files"]["README.md"]}), "'../etc/passwd' does not match"),
        (lambda d: d["files"].update({"/etc/passwd": d["files"]["README.md"]}), "'/etc/passwd' does not match"),
        (lambda d: d["files"].update({"a/../../b": d["files"]["README.md"]}), "does not match"),
        (lambda d: d["code"].update(revision="main"), "'main' does not match"),
        (lambda d: d["artifacts"][0]["checks"][0].update(outcome="fail"), "'fail' is not one of"),
        (lambda d: d["artifacts"].clear(), "[] should be non-empty"),
        (lambda d: d["inputs"][0].update(files={}), "should be non-empty"),
    ],
)
def test_what_the_schema_forbids_is_refused(copy: Path, capsys: pytest.CaptureFixture, change, words: str) -> None:  # type: ignore[no-untyped-def]
    """Status 2 and one sentence that says where; a path that leaves the release is never followed."""
    document = json.loads((copy / "provenance.json").read_text())
    change(document)
    (copy / "provenance.json").write_text(json.dumps(document))
    assert main(["provenance", str(copy)]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "provenance.json: $" in told


def test_a_folder_without_provenance_is_no_release(tmp_path: Path) -> None:
    """Neither is one whose provenance is no JSON."""
    with pytest.raises(QuernError, match="expected a release, with its provenance"):
        provenance.read(tmp_path)
    (tmp_path / "provenance.json").write_text("{")
    with pytest.raises(QuernError, match="not JSON"):
        provenance.read(tmp_path)
