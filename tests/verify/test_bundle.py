import platform
import shutil
from pathlib import Path

import pytest

from mil.compile import compile_package
from mil.package import write_package
from pipeline.types import Subject
from tests.verify.test_alias import program
from verify.bundle import measure, unlike


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    write_package(program(), {}, tmp_path / "model.mlpackage")
    compile_package(tmp_path / "model.mlpackage", tmp_path)
    return Subject((), (), tmp_path / "model.mlpackage", tmp_path / "model.mlmodelc")


def test_a_bundle_of_its_package_has_no_failures(subject: Subject) -> None:
    """Whole, consistent, and from this package."""
    assert measure(subject)[0].value == 0


def test_a_bundle_of_another_package_fails(subject: Subject, tmp_path: Path) -> None:
    """The hash in the bundle ties it to the package it was made from."""
    write_package(program(outputs=("y",), produced="y"), {}, tmp_path / "same.mlpackage")
    other = program()
    other.description.metadata.author = "somebody else"
    write_package(other, {}, tmp_path / "other.mlpackage")
    assert measure(Subject((), (), tmp_path / "same.mlpackage", subject.bundle))[0].value == 0
    found = measure(Subject((), (), tmp_path / "other.mlpackage", subject.bundle))[0]
    assert (found.value or 0) >= 1
    assert "package hash" in found.note


def test_a_stray_file_fails(subject: Subject) -> None:
    """Nothing but what a bundle has may be in it."""
    assert subject.bundle
    (subject.bundle / "weights.partial").touch()
    assert (measure(subject)[0].value or 0) >= 1


@pytest.mark.skipif(platform.system() == "Darwin", reason="this machine can run it")
def test_without_a_mac_apples_compiler_is_not_run(subject: Subject) -> None:
    """No value and a reason."""
    assert [(m.value, m.note) for m in measure(subject)[1:]] == [(None, "needs macOS")]


def test_files_that_differ_are_counted_and_named(subject: Subject, tmp_path: Path) -> None:
    """One changed and one missing file are two; the description, whose order varies, is not compared."""
    assert subject.bundle
    other = tmp_path / "other.mlmodelc"
    shutil.copytree(subject.bundle, other)
    assert unlike(subject.bundle, other).value == 0
    (other / "coremldata.bin").write_bytes(b"another order")
    assert unlike(subject.bundle, other).value == 0
    (other / "model.mil").write_text("program(1.0)")
    (other / "metadata.json").unlink()
    found = unlike(subject.bundle, other)
    assert (found.value, found.note) == (2, "metadata.json, model.mil")
