"""`.npz` archives are read as numbers, whatever else is in them."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.npz import read_npz
from pipeline.types import QuernError

EXPECTED = {"a": (2, 3), "b": (4,)}
GOOD = {"a": np.arange(6.0).reshape(2, 3), "b": np.ones(4, np.float32)}


def _saved(path: Path, **changes: np.ndarray) -> Path:
    np.savez(path, **(GOOD | changes))
    return path


def _refusal(path: Path) -> str:
    with pytest.raises(QuernError) as caught:
        read_npz(path, EXPECTED)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_saves_is_read(tmp_path: Path, save) -> None:
    """Stored or compressed, in the order of rows or of columns."""
    save(tmp_path / "x.npz", **(GOOD | {"a": np.asfortranarray(GOOD["a"])}))
    found = read_npz(tmp_path / "x.npz", EXPECTED)
    assert {name: array.dtype for name, array in found.items()} == {"a": np.float64, "b": np.float32}
    assert all(np.array_equal(found[name], GOOD[name]) for name in GOOD)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"a": np.zeros((3, 2))}, "array 'a': shape [3, 2] instead of [2, 3]"),
        ({"a": np.zeros((2, 3), int)}, "array 'a': elements of type int64; expected floating-point numbers"),
        ({"a": np.zeros((2, 3), complex)}, "elements of type complex128"),
        ({"a": np.full((2, 3), None)}, "array 'a': holds Python objects, which can only be read by executing them"),
        ({"b": np.array([1, np.nan, 1, 1])}, "not finite floating-point numbers: b"),
        ({"b": np.array([1, np.inf, 1, 1])}, "not finite floating-point numbers: b"),
        ({"c": np.zeros(1)}, "expected the arrays a, b; found 'a', 'b', 'c'"),
    ],
)
def test_other_content_is_refused_in_one_sentence(tmp_path: Path, changes: dict, expected: str) -> None:
    """Shape, type, objects, numbers that are none, arrays too many: with the file's and the array's name."""
    assert expected in _refusal(_saved(tmp_path / "x.npz", **changes))


def test_a_missing_array_is_named_by_what_is_there(tmp_path: Path) -> None:
    """Expected and found stand side by side."""
    np.savez(tmp_path / "x.npz", a=GOOD["a"])
    assert "expected the arrays a, b; found 'a'" in _refusal(tmp_path / "x.npz")


class _Trap:
    def __reduce__(self):
        return (Path.touch, (Path(self.place),))


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    """An object whose unpickling would leave a file leaves none."""
    trap = _Trap()
    trap.place = str(tmp_path / "sprung")
    _refusal(_saved(tmp_path / "x.npz", a=np.full((2, 3), trap)))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.95, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, part: float) -> None:
    """Wherever it ends."""
    whole = _saved(tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(whole[: int(part * len(whole))])
    assert "truncated, or not an .npz archive" in _refusal(tmp_path / "x.npz")


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    """With the system's reason."""
    assert "No such file" in _refusal(tmp_path / "x.npz")


def _archive(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", content)
        archive.writestr("b.npy", _npy(GOOD["b"]))
    return path


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not in numpy's format"),
        (b"hello, world", "not in numpy's format"),
        (_npy(GOOD["a"])[:-8], "expected 48 bytes of elements, found 40"),
        (_npy(GOOD["a"]) + b"\0", "expected 48 bytes of elements, found more"),
        (_npy(GOOD["a"]).replace(b"(2, 3)", b"(9**9)"), "not in numpy's format"),
        (_npy(GOOD["a"]).replace(b"(2, 3), }        ", b"(2, 999999999), }"), "shape [2, 999999999]"),
    ],
)
def test_an_array_that_is_not_what_it_says_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    """Nothing is allocated on the word of a header."""
    assert expected in _refusal(_archive(tmp_path / "x.npz", content))


@given(st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any bytes of the file or of a header changed: a QuernError, or arrays of the expected shapes; nothing else."""
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    content = bytearray(_saved(path).read_bytes() if data.draw(st.booleans()) else _npy(GOOD["a"]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if content[:2] == b"PK":
        path.write_bytes(content)
    else:
        _archive(path, bytes(content))
    try:
        found = read_npz(path, EXPECTED)
    except QuernError:
        return
    assert {name: array.shape for name, array in found.items()} == EXPECTED
