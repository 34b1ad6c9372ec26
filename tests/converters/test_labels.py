"""What an artifact says of itself is written into a finished one, in every format."""

import json
from pathlib import Path

import numpy as np
import pytest

from converters.models import segmentation
from converters.models.segmentation import Form
from mil.package import read_package
from pipeline import plugins

FORM = Form(window_s=1.0)
STRINGS = {"quern.licence": "MIT", "quern.weights": "a test"}


def artifact(folder: Path, name: str) -> Path:
    """Return a network in its format's own precision, with a string of its own."""
    target, state = plugins.format_(name), segmentation.synthetic(0)
    if target.missing():
        pytest.skip(target.missing())
    network = segmentation.load(state, FORM)
    network.trained = state
    path = folder / f"plain{target.SUFFIX}"
    target.convert(
        network, segmentation.inputs(FORM), segmentation.outputs(FORM), {"window_s": "1"}, target.Options(), path
    )
    return path


def strings(path: Path) -> dict[str, str]:
    """Return what an artifact says, read as its format has it."""
    match path.suffix:
        case ".mlpackage":
            return dict(read_package(path).spec.description.metadata.userDefined)
        case ".mlx":
            return json.loads((path / "config.json").read_text())["metadata"]
        case ".onnx":
            import onnx

            return {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        case _:
            from gguf import GGUFReader, GGUFValueType

            fields = GGUFReader(path).fields.values()
            return {f.name: f.contents() for f in fields if f.types == [GGUFValueType.STRING]}


@pytest.mark.parametrize("name", plugins.names("format"))
def test_a_label_adds_words_and_changes_no_number(tmp_path: Path, name: str) -> None:
    """What was said before is still said, and every output is the same, bit for bit."""
    target, plain = plugins.format_(name), artifact(tmp_path, name)
    labelled = tmp_path / f"labelled{target.SUFFIX}"
    target.label(plain, STRINGS, labelled)
    assert strings(labelled) == strings(plain) | STRINGS
    audio = {"audio": np.random.default_rng(0).standard_normal((1, 1, 16000)).astype(np.float32) / 8}
    before, after = (target.runner(path, "declared")(audio) for path in (plain, labelled))
    assert np.array_equal(before["segments"], after["segments"])


@pytest.mark.parametrize("name", ["coreml", "mlx"])
def test_a_labelled_folder_shares_its_weights(tmp_path: Path, name: str) -> None:
    """They are one file on disk under two names."""
    target, plain = plugins.format_(name), artifact(tmp_path, name)
    labelled = tmp_path / f"labelled{target.SUFFIX}"
    target.label(plain, STRINGS, labelled)
    files = [path.relative_to(plain) for path in plain.rglob("weight*") if path.is_file()]
    assert files
    assert all((plain / file).samefile(labelled / file) for file in files)
