"""variants.yaml and contracts are read by the same strict reader."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.code import ROOT
from pipeline.config import read_matrix
from pipeline.options import Complaints
from pipeline.types import QuernError
from pipeline.yaml_file import read_yaml
from tests.pipeline.test_config import SMALL
from verify.contracts.terms import FOLDER, read_contract

CONTRACT = """
consumer: App
source: its sources
interfaces:
  one:
    inputs: {audio: {dtype: float32}}
models:
  Name: {interface: one}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.yaml"


@pytest.mark.parametrize(
    ("read", "text", "key"),
    [(read_matrix, SMALL, "5s"), (read_matrix, SMALL, "mine"), (read_contract, CONTRACT, "Name")],
)
def test_a_key_written_twice_is_refused(file: Path, read: Callable[[Path], object], text: str, key: str) -> None:
    """YAML forbids it, and a silent second declaration would win: of a variant, or of what an app requires."""
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.strip().startswith(f"{key}:"))
    file.write_text("\n".join([*lines[:first], lines[first], *lines[first:]]))
    with pytest.raises(QuernError) as error:
        read(file)
    assert f"file.yaml: line {first + 2}: '{key}' is declared twice, first in line {first + 1}" in str(error.value)


def test_a_key_within_braces_counts_too(file: Path) -> None:
    """And every key that is there twice is told, not the first alone."""
    file.write_text("limits: {least: 1, least: 2}\nmost: 1\nmost: 2\n")
    complaints = Complaints()
    read_yaml(file, complaints)
    assert complaints == [
        "line 3: 'most' is declared twice, first in line 2",
        "line 1: 'least' is declared twice, first in line 1",
    ]


def test_what_is_laid_under_a_mapping_may_have_its_keys(file: Path) -> None:
    """A merged mapping, and an anchor that is used twice, declare nothing twice."""
    file.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: *a\n")
    complaints = Complaints()
    assert read_yaml(file, complaints) == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": {"x": 1, "y": 2}}
    assert not complaints


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"variants: [", "file.yaml: not YAML: while parsing"),
        (b"? [a, b]\n: 1\n", "found unhashable key"),
        (b"a: \xff\n", "file.yaml: not YAML: expected UTF-8, found 0xff"),
        (b"a: !!python/object:os.system {}\n", "could not determine a constructor"),
    ],
)
def test_what_is_no_yaml_is_one_sentence(file: Path, content: bytes, sentence: str) -> None:
    """For the matrix and for contracts alike, and nothing of it is executed."""
    file.write_bytes(content)
    for read in (read_matrix, read_contract):
        with pytest.raises(QuernError) as error:
            read(file)
        assert sentence in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("read", [read_matrix, read_contract])
def test_a_missing_file_is_one_sentence(tmp_path: Path, read: Callable[[Path], object]) -> None:
    """The path and the reason."""
    with pytest.raises(QuernError, match=r"nowhere\.yaml: cannot be read: No such file"):
        read(tmp_path / "nowhere.yaml")


def test_our_own_files_have_no_key_twice() -> None:
    """The matrix and every contract."""
    for path in (ROOT / "variants.yaml", *sorted(FOLDER.glob("*.yaml"))):
        complaints = Complaints()
        read_yaml(path, complaints)
        assert complaints == [], path
