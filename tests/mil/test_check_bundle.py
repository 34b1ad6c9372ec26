"""`verify`: every check can pass, fail and not run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mil.check_bundle import FAIL, NOT_RUN, PASS, check_bundle
from mil.cli import main
from mil.coremldata import pack, unpack
from mil.errors import MilError
from tests.fixtures import needs_fixtures
from tests.mil.test_compile import ALL_PAIRS, WHOLE_PAIRS, bundle_of, package_of


def outcomes(bundle: Path, package: Path | None = None) -> dict[str, str]:
    return {check.name: check.outcome for check in check_bundle(bundle, package)}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    copy = tmp_path / "b.mlmodelc"
    shutil.copytree(bundle_of(WHOLE_PAIRS[0]), copy, copy_function=shutil.copyfile)
    return copy


@needs_fixtures
@pytest.mark.parametrize("pair", WHOLE_PAIRS, ids=lambda pair: pair.name)
def test_apples_pairs_pass_every_check(pair: Path) -> None:
    """A bundle that Apple made of a package passes all ten checks."""
    found = outcomes(bundle_of(pair), package_of(pair))
    assert len(found) == 10
    assert set(found.values()) == {PASS}


@needs_fixtures
def test_checks_against_a_package_do_not_run_without_one(bundle: Path) -> None:
    """What cannot be known is said not to have run."""
    found = outcomes(bundle)
    assert {name for name, outcome in found.items() if outcome == NOT_RUN} == {
        "package hash",
        "package text",
        "package weights",
        "package description",
    }


@needs_fixtures
def test_another_package_is_found_out(bundle: Path) -> None:
    """All four comparisons with a package that the bundle does not come from fail."""
    found = outcomes(bundle, package_of(WHOLE_PAIRS[-1]))
    assert {name for name, outcome in found.items() if outcome == FAIL} == {
        "package hash",
        "package text",
        "package weights",
        "package description",
    }


def flip_sentinel(bundle: Path) -> None:
    content = bytearray((bundle / "weights" / "weight.bin").read_bytes())
    content[64] ^= 1
    (bundle / "weights" / "weight.bin").write_bytes(content)


def rename_input(bundle: Path) -> None:
    data = unpack((bundle / "coremldata.bin").read_bytes())
    data.description.input[0].name = "another"
    (bundle / "coremldata.bin").write_bytes(pack(data))


def reshape_input(bundle: Path) -> None:
    data = unpack((bundle / "coremldata.bin").read_bytes())
    data.description.input[0].type.multiArrayType.shape[0] = 7
    (bundle / "coremldata.bin").write_bytes(pack(data))


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a stray file": ("files", lambda bundle: (bundle / "model.mil.bak").write_text("")),
    "a missing file": ("files", lambda bundle: (bundle / "analytics" / "coremldata.bin").unlink()),
    "another layout": ("text", lambda bundle: _append(bundle / "model.mil", "\n")),
    "a damaged weight file": ("weights", flip_sentinel),
    "truncated weights": ("weights", lambda bundle: (bundle / "weights" / "weight.bin").write_bytes(bytes(128))),
    "another input": ("description", rename_input),
    "another shape": ("description", reshape_input),
    "other metadata": ("metadata", lambda bundle: _replace(bundle / "metadata.json", '"method" : "p', '"method" : "q')),
    "an unreadable text": ("readable", lambda bundle: (bundle / "model.mil").write_text("program")),
}


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def _replace(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@needs_fixtures
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(damage: str, bundle: Path) -> None:
    """Each kind of damage fails the check that is about it."""
    name, harm = DAMAGES[damage]
    assert outcomes(bundle)[name] == PASS
    harm(bundle)
    assert outcomes(bundle)[name] == FAIL


@needs_fixtures
def test_pointers_are_found(bundle: Path) -> None:
    """A Git LFS pointer in place of the weights is named as what it is."""
    (bundle / "weights" / "weight.bin").write_text("version https://git-lfs.github.com/spec/v1\n")
    found = {check.name: check.note for check in check_bundle(bundle) if check.outcome == FAIL}
    assert "Git LFS" in found["files"]


@needs_fixtures
def test_a_bundle_without_description_leaves_checks_open() -> None:
    """Text and metadata alone: what needs the rest has not run, or fails where it has to be there."""
    pair = next(pair for pair in ALL_PAIRS if pair not in WHOLE_PAIRS)
    found = outcomes(bundle_of(pair), package_of(pair))
    assert found["text"] == found["package text"] == PASS
    assert found["description"] == found["package hash"] == NOT_RUN
    assert found["weights"] == found["files"] == FAIL


@needs_fixtures
def test_the_exit_status_says_whether_a_check_failed(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 where all that ran passed, 1 where one failed, 2 where there is no bundle; JSON on request."""
    assert main(["verify", str(bundle)]) == 0
    assert "6 pass, 0 fail, 4 not run" in capsys.readouterr().out
    (bundle / "stray").write_text("")
    assert main(["verify", str(bundle), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["outcome"] == FAIL
    assert main(["verify", str(bundle / "stray")]) == 2


def test_what_is_no_folder_is_an_error(tmp_path: Path) -> None:
    """There is nothing to check."""
    with pytest.raises(MilError, match="expected a folder"):
        check_bundle(tmp_path / "missing")


@needs_fixtures
def test_what_has_no_known_form_is_not_called_a_failure(bundle: Path) -> None:
    """A bundle with enumerated shapes, which we cannot write, leaves its metadata unchecked."""
    data = unpack((bundle / "coremldata.bin").read_bytes())
    array = data.description.input[0].type.multiArrayType
    array.enumeratedShapes.shapes.add(shape=array.shape)
    (bundle / "coremldata.bin").write_bytes(pack(data))
    assert outcomes(bundle)["metadata"] == NOT_RUN
