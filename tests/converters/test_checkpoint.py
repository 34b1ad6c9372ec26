"""Checkpoints are read as numbers, whatever else is in them."""

import contextlib
import io
import pickle
import struct
import subprocess
import sys
import time
import types
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from converters import checkpoint
from converters.checkpoint import check_tensors, read_tensors, read_torch_archive
from pipeline.types import QuernError


def _saved(content, path):
    torch.save(content, path)
    return read_tensors(path)


@pytest.mark.parametrize(
    ("torch_dtype", "numpy_dtype"),
    [
        (torch.float64, np.float64),
        (torch.float32, np.float32),
        (torch.float16, np.float32),
        (torch.bfloat16, np.float32),
        (torch.int64, np.int64),
        (torch.int32, np.int32),
        (torch.int16, np.int16),
        (torch.int8, np.int8),
        (torch.uint8, np.uint8),
        (torch.bool, np.bool_),
    ],
)
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_every_element_type_is_read_and_half_precision_widened(tmp_path, torch_dtype, numpy_dtype, suffix):
    """What torch wrote comes back as numpy arrays of the same values."""
    tensor = (torch.arange(12).reshape(3, 4) / 3).to(torch_dtype)
    path = tmp_path / f"model{suffix}"
    save_file({"x": tensor}, path) if suffix == ".safetensors" else torch.save({"x": tensor}, path)
    found = read_tensors(path)["x"]
    assert found.dtype == numpy_dtype
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, tensor.to(torch.float64).numpy().astype(numpy_dtype))


def test_views_parameters_scalars_and_empty_tensors_are_read(tmp_path):
    """Strides, offsets and shared storages say what they say in torch."""
    base = torch.arange(24.0).reshape(4, 6)
    content = {
        "transposed": base.T,
        "slice": base[1:3, ::2],
        "parameter": torch.nn.Parameter(base),
        "scalar": torch.tensor(7.0),
        "empty": torch.zeros(0, 3),
    }
    found = _saved(content, tmp_path / "model.bin")
    assert list(found) == list(content)
    for name, tensor in content.items():
        np.testing.assert_array_equal(found[name], tensor.detach().numpy())


def test_a_state_dict_with_metadata_is_read(tmp_path):
    """Modules give their state dicts an attribute `_metadata`."""
    module = torch.nn.LSTM(3, 4, bidirectional=True)
    found = _saved(module.state_dict(), tmp_path / "model.bin")
    assert found.keys() == module.state_dict().keys()
    np.testing.assert_array_equal(found["weight_hh_l0_reverse"], module.weight_hh_l0_reverse.detach().numpy())


class Problem(Enum):
    MONO_LABEL_CLASSIFICATION = 1


@dataclass
class Specifications:
    problem: Problem
    duration: float
    classes: list


class Callback:
    def __init__(self):
        self.monitored = {"loss": {1, 2}, "at": np.float64(3.0), "range": range(3)}


def _lightning(tensors):
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": OrderedDict(tensors),
        "callbacks": {Callback: Callback()},
        "pyannote.audio": {
            "versions": {"pyannote.audio": "3.0.0"},
            "architecture": {"module": "pyannote.audio.models.segmentation", "class": "PyanNet"},
            "specifications": Specifications(Problem.MONO_LABEL_CLASSIFICATION, 10.0, ["a", "b"]),
        },
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(5)}}}],
    }


def test_lightning_checkpoints_are_read_without_the_classes_they_name(tmp_path, monkeypatch):
    """pyannote's pytorch_model.bin holds objects beside the tensors; their module is not imported, nor needed."""
    module = types.ModuleType("pyannote_like")
    for cls in (Problem, Specifications, Callback):
        monkeypatch.setattr(cls, "__module__", module.__name__)
        setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.save(_lightning({"w": torch.ones(2, 3)}), tmp_path / "pytorch_model.bin")
    monkeypatch.delitem(sys.modules, module.__name__)
    found = read_tensors(tmp_path / "pytorch_model.bin")
    assert list(found) == ["w"]
    np.testing.assert_array_equal(found["w"], np.ones((2, 3)))
    assert module.__name__ not in sys.modules


# From here on, archives are put together from opcodes, for torch would not write them.


def _value(value):
    return pickle.dumps(value, 2)[2:-1]


def _global(module, name):
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def _call(module, name, *arguments):
    return _global(module, name) + b"(" + b"".join(arguments) + b"tR"


def _storage(key="0", count=6, kind="FloatStorage"):
    return b"(" + _value("storage") + _global("torch", kind) + _value(key) + _value("cpu") + _value(count) + b"tQ"


def _tensor(storage=None, offset=0, shape=(2, 3), strides=(3, 1)):
    rest = _value(offset) + _value(shape) + _value(strides) + _value(False) + _call("collections", "OrderedDict")
    return _call("torch._utils", "_rebuild_tensor_v2", storage or _storage(), rest)


def _dict(**members):
    return b"}(" + b"".join(_value(name) + content for name, content in members.items()) + b"u"


def _archive(pickled, storages=None, compression=zipfile.ZIP_STORED, **others):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + pickled + b".")
        for key, content in (storages or {"0": struct.pack("<6f", *range(6))}).items():
            archive.writestr(f"archive/data/{key}", content)
        for name, content in others.items():
            archive.writestr(f"archive/{name}", content)
    file.seek(0)
    return file


def _read(file):
    return read_torch_archive(file, "evil.bin")


def test_the_archives_of_these_tests_are_read_where_nothing_is_wrong_with_them():
    """The refusals below are not refusals of how the tests write."""
    np.testing.assert_array_equal(_read(_archive(_dict(x=_tensor())))["x"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("posix", "system"), ("subprocess", "getoutput"), ("builtins", "eval")]
)
@pytest.mark.parametrize("place", ["beside", "inside"])
def test_nothing_that_a_checkpoint_calls_is_executed(tmp_path, module, name, place):
    """A call beside the tensors is inert; one in place of a tensor is refused; neither leaves a trace."""
    marker = tmp_path / "marker"
    command = f"open({str(marker)!r}, 'w')" if name == "eval" else f"touch {marker}"
    call = _call(module, name, _value(command))
    if place == "beside":
        assert list(_read(_archive(_dict(callbacks=call, state_dict=_dict(x=_tensor()))))) == ["x"]
    else:
        with pytest.raises(QuernError, match="'x', which is not a tensor"):
            _read(_archive(_dict(state_dict=_dict(x=call))))
    assert not marker.exists()


def test_a_pickle_that_python_would_execute_is_not(tmp_path):
    """The same with what `pickle` itself writes for an object whose __reduce__ names os.system."""
    marker = tmp_path / "marker"

    class Evil:
        def __reduce__(self):
            return subprocess.check_call, (["touch", str(marker)],)

    torch.save({"state_dict": {"x": torch.ones(1)}, "evil": Evil()}, tmp_path / "evil.bin")
    assert list(read_tensors(tmp_path / "evil.bin")) == ["x"]
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._utils", "_rebuild_tensor_v2"),
        ("any", "Class"),
        ("collections", "OrderedDict"),
        ("torch", "FloatStorage"),
    ],
)
@pytest.mark.parametrize("made", [b"", b")R"])
def test_a_pickle_cannot_change_what_the_next_one_meets(module, name, made):
    """Attributes that a pickle sets, by BUILD, of what it is given or makes are gone when it has been read."""
    slots = _value({"__defaults__": (1,), "__name__": "changed", "__setstate__": 3, "items": 3, "_metadata": 3})
    hostile = _global(module, name) + made + b"N" + slots + b"\x86b"
    before = {
        value: [repr(value.__dict__), getattr(value, "__defaults__", None), value.__name__]
        for value in (checkpoint._Inert, checkpoint._Mapping, *checkpoint._REBUILD.values())
    }
    with contextlib.suppress(QuernError):
        _read(_archive(_dict(a=hostile, state_dict=_dict(x=_tensor()))))
    for value, [members, defaults, called] in before.items():
        assert [repr(value.__dict__), getattr(value, "__defaults__", None), value.__name__] == [
            members,
            defaults,
            called,
        ]
    assert list(_read(_archive(_dict(x=_tensor())))) == ["x"]


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (_tensor(_storage(count=7)), "7 elements of 4 bytes and is 24 bytes"),
        (_tensor(_storage(count=2**40)), "1099511627776 elements"),
        (_tensor(_storage(count=-1)), "not in the archive"),
        (_tensor(_storage(count=2.0)), "not in the archive"),
        (_tensor(_storage(key="1")), "not in the archive"),
        (_tensor(_storage(key="../../../etc/passwd")), "not in the archive"),
        (_tensor(_storage(key=["0"])), "not in the archive"),
        (_tensor(_storage(kind="DoubleStorage")), "6 elements of 8 bytes"),
        (_tensor(_storage(kind="ComplexFloatStorage")), "of a type that no network here uses"),
        (_tensor(_value("storage")), "of a type that no network here uses"),
        (_tensor(offset=1), "does not fit"),
        (_tensor(offset=2**47), "does not fit"),
        (_tensor(offset=-1), "whole numbers"),
        (_tensor(strides=(4, 1)), "does not fit"),
        (_tensor(strides=(-3, 1)), "whole numbers"),
        (_tensor(strides=(2**47, 1)), "does not fit"),
        (_tensor(strides=(3,)), "whole numbers"),
        (_tensor(shape=(3, 3)), "does not fit"),
        (_tensor(shape=(2**40,), strides=(0,)), "does not fit"),
        (_tensor(shape=(2**40, 2**40), strides=(0, 0)), "does not fit"),
        (_tensor(shape=(2**80,), strides=(1,)), "whole numbers"),
        (_tensor(shape=(-2, 3)), "whole numbers"),
        (_tensor(shape=("2", 3)), "whole numbers"),
        (_tensor(shape=[2, 3]), "whole numbers"),
        (_tensor(shape=None), "whole numbers"),
        (_tensor(shape=(True, 3)), "whole numbers"),
        (_tensor(shape=(1,) * 65, strides=(1,) * 65), "whole numbers"),
        (_value(3), "'x', which is not a tensor"),
    ],
)
def test_claims_that_the_archive_does_not_bear_out_are_refused(tensor, expected):
    """Offsets, strides, shapes and storages are held against the bytes that are there, before anything is made."""
    with pytest.raises(QuernError, match=expected) as caught:
        _read(_archive(_dict(x=tensor)))
    assert str(caught.value).startswith("evil.bin: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b"}(",
        b"R",
        b"(tR",
        b"\x8e" + struct.pack("<Q", 2**62),  # bytes of 2^62
        b"\x8b" + struct.pack("<i", 2**31 - 1),  # an integer of 2 GiB
        b"}r" + struct.pack("<I", 2**32 - 1) + b"0",  # memo slot 2^32 − 1
        b"\x95" + struct.pack("<Q", 2**62) + b"}",  # a frame of 2^62
        b"\x82\x01",  # an extension code
        _value("x") + b"Q",  # a persistent id that is no tuple
        b"(" + _value("module") + b"NNNNtQ",
        _value(3),
        _value({}),
        _value([1, 2]),
        _value({"state_dict": {}}),
        _value({"state_dict": 3}),
        b"}(K\x01" + _tensor() + b"u",  # a name that is a number
    ],
)
def test_what_is_no_pickle_of_a_state_dict_is_refused_at_once(pickled):
    """Broken, oversized and foreign pickles are QuernErrors, soon and without the memory that they claim."""
    started = time.perf_counter()
    with pytest.raises(QuernError, match=r"^evil\.bin: "):
        _read(_archive(pickled))
    assert time.perf_counter() - started < 2


def test_archives_that_torch_would_not_write_are_refused():
    """Compressed, big-endian, without a pickle, with two entries of one name: one sentence each."""
    pickled = _dict(x=_tensor())
    with pytest.raises(QuernError, match="compressed"):
        _read(_archive(pickled, {"0": b"\0" * 10**6}, zipfile.ZIP_DEFLATED))
    with pytest.raises(QuernError, match="big-endian"):
        _read(_archive(pickled, byteorder=b"big"))
    with zipfile.ZipFile(empty := io.BytesIO(), "w") as archive:
        archive.writestr("archive/version", b"3")
    with pytest.raises(QuernError, match=r"without data\.pkl"):
        _read(empty)
    with zipfile.ZipFile(twice := _archive(pickled), "a") as archive:
        archive.writestr("other/data.pkl", b"N.")
    with pytest.raises(QuernError, match="share a name"):
        _read(twice)


def test_an_entry_that_claims_more_than_the_file_holds_is_refused():
    """A central directory that says an entry has 4 GB makes nobody allocate them."""
    content = _archive(_dict(x=_tensor())).getvalue()
    entry = content.rfind(b"PK\x01\x02")
    forged = content[: entry + 20] + struct.pack("<II", 2**32 - 2, 2**32 - 2) + content[entry + 28 :]
    with pytest.raises(QuernError, match="claim more bytes"):
        _read(io.BytesIO(forged))


def test_the_format_before_torch_1_6_is_refused(tmp_path):
    """It cannot be read without executing it, and the sentence says what to do."""
    torch.save({"x": torch.ones(2)}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(QuernError, match="save it again"):
        read_tensors(tmp_path / "old.bin")


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path, suffix, part):
    """However much of the file is missing."""
    path = tmp_path / f"model{suffix}"
    tensors = {"x": torch.ones(50, 50), "y": torch.ones(3)}
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(QuernError) as caught:
        read_tensors(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_file_is_refused(tmp_path):
    """So is a folder."""
    for name in ("absent.bin", "absent.safetensors", "."):
        with pytest.raises(QuernError, match="cannot read the checkpoint"):
            read_tensors(tmp_path / name)


def _safetensors(header, data=b"\0" * 24, size=None):
    return struct.pack("<Q", len(header) if size is None else size) + header + data


@pytest.mark.parametrize(
    "content",
    [
        _safetensors(b"{}", size=2**63),
        _safetensors(b"not json"),
        _safetensors(b'{"x":{"dtype":"F32","shape":[6],"data_offsets":[0,48]}}'),
        _safetensors(b'{"x":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,24]}}'),
        _safetensors(b'{"x":{"dtype":"F32","shape":[6],"data_offsets":[24,0]}}'),
        _safetensors(
            b'{"x":{"dtype":"F32","shape":[6],"data_offsets":[0,24]},"y":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}'
        ),
        _safetensors(b'{"x":{"dtype":"F77","shape":[6],"data_offsets":[0,24]}}'),
        _safetensors(b'{"x":{"dtype":"U64","shape":[3],"data_offsets":[0,24]}}'),
    ],
)
def test_hostile_safetensors_are_refused(tmp_path, content):
    """Sizes, overlaps and types that are not true of the file."""
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(QuernError, match=r"model\.safetensors: ") as caught:
        read_tensors(tmp_path / "model.safetensors")
    assert "\n" not in str(caught.value)


_PICKLED = _dict(state_dict=_dict(x=_tensor(), y=_tensor(shape=(3,), strides=(2,))), more=_value([1, {"a": (2, 3)}]))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_pickle_is_read_or_refused(data):
    """Whatever bytes change, the answer is tensors or a QuernError."""
    content = bytearray(_PICKLED)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = _read(_archive(bytes(content)))
    except QuernError:
        return
    assert all(isinstance(tensor, np.ndarray) and tensor.size <= 6 for tensor in found.values())


def test_tensors_as_expected_pass():
    """Names, shapes and finite numbers: no complaint."""
    check_tensors({"a": np.zeros((2, 3)), "b": np.ones(1, np.float32)}, {"b": (1,), "a": (2, 3)}, "model.bin")


def test_other_tensors_are_refused_in_one_sentence():
    """The first names of each kind of trouble, and how many there are."""
    expected = {"a": (2, 3), "b": (4,), "c": (1,), "d": (1,), "e": (1,)}
    found = {"a": np.zeros((3, 2)), "extra\n": np.zeros(1)}
    with pytest.raises(QuernError) as caught:
        check_tensors(found, expected, "model.bin")
    message = str(caught.value)
    assert message.startswith("model.bin: foreign checkpoint")
    assert "missing: b, c, d and 1 more" in message
    assert r"unexpected: 'extra\n'" in message
    assert "wrong shape: a [3, 2] instead of [2, 3]" in message
    assert "\n" not in message


@pytest.mark.parametrize("value", [np.array([1.0, np.nan]), np.array([np.inf, 0.0]), np.array([1, 2])])
def test_numbers_that_no_training_leaves_are_refused(value):
    """NaN, infinity, integers in place of weights."""
    with pytest.raises(QuernError, match="finite floating-point numbers: a"):
        check_tensors({"a": value}, {"a": (2,)}, "model.bin")
