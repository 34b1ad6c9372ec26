"""Archives of NeMo: what is read of them, and what is refused."""

import gzip
import io
import tarfile

import numpy as np
import pytest

from converters.nemo import CONFIG, WEIGHTS, read_nemo, setting
from pipeline.types import QuernError
from tests.converters.sortformers import configuration, saved, tiny_state, write_nemo


@pytest.fixture(scope="module")
def weights():
    return saved(tiny_state())


def _archive(path, *members):
    """Write a tar file of members: (TarInfo or name, content)."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def _refusal(path):
    with pytest.raises(QuernError) as caught:
        read_nemo(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("compressed", [False, True])
def test_configuration_and_tensors_are_read_compressed_or_not(tmp_path, weights, compressed):
    """The same of both: NeMo has written either, under names with and without "./"."""
    config, tensors = read_nemo(write_nemo(tmp_path / "a.nemo", configuration(), weights, compressed))
    assert config["encoder"]["n_heads"] == 4
    name = "encoder.layers.1.feed_forward1.linear1.weight"
    np.testing.assert_array_equal(tensors[name], tiny_state()[name])


def test_other_files_of_an_archive_are_left_alone(tmp_path, weights):
    """Tokenizers and code may lie beside; nothing is unpacked."""
    content = b"import os\n"
    members = [("code.py", content), (CONFIG, b"a: 1\n"), (WEIGHTS, weights)]
    config, tensors = read_nemo(_archive(tmp_path / "a.nemo", *members))
    assert config == {"a": 1}
    assert len(tensors) > 100
    assert [path.name for path in tmp_path.iterdir()] == ["a.nemo"]


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, weights, name):
    """Even though nothing is unpacked: such an archive was made to do harm."""
    path = _archive(tmp_path / "a.nemo", (name, b"x"), (CONFIG, b"a: 1\n"), (WEIGHTS, weights))
    assert "outside of its folder" in _refusal(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, weights, kind):
    """Also where one stands in for the weights."""
    member = tarfile.TarInfo(WEIGHTS)
    member.type, member.linkname = kind, "/etc/passwd"
    path = tmp_path / "a.nemo"
    with tarfile.open(path, "w") as archive:
        archive.addfile(member)
    assert "neither a file nor a folder" in _refusal(path)


def test_what_is_missing_is_named(tmp_path, weights):
    """One of the two files, or both."""
    assert f"no {CONFIG} in" in _refusal(_archive(tmp_path / "a.nemo", (WEIGHTS, weights)))
    assert f"no {CONFIG} and no {WEIGHTS} in" in _refusal(_archive(tmp_path / "b.nemo", ("x", b"")))


def test_a_second_file_of_one_name_is_refused(tmp_path, weights):
    """Which of the two would be meant?"""
    path = _archive(tmp_path / "a.nemo", (CONFIG, b"a: 1"), (f"./{CONFIG}", b"a: 2"), (WEIGHTS, weights))
    assert "twice" in _refusal(path)


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path):
    """100 MB of zeros in 100 kB, before they are unpacked."""
    path = tmp_path / "a.nemo"
    with gzip.open(path, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo(WEIGHTS)
        member.size = 100_000_000
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    assert "claims 100000000 bytes" in _refusal(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_truncated_archive_is_refused(tmp_path, weights, compressed):
    """Cut in the middle of the weights, or of the compressed stream."""
    whole = write_nemo(tmp_path / "a.nemo", configuration(), weights, compressed).read_bytes()
    path = tmp_path / "b.nemo"
    path.write_bytes(whole[: len(whole) // 2])
    _refusal(path)


@pytest.mark.parametrize("content", [b"", b"not a tar file", b"\x1f\x8bnot gzip either", bytes(10240)])
def test_other_files_are_refused(tmp_path, content):
    """Empty files, text, broken compression, and an archive of nothing."""
    path = tmp_path / "a.nemo"
    path.write_bytes(content)
    _refusal(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    """With the system's reason."""
    assert "No such file" in _refusal(tmp_path / "a.nemo")


@pytest.mark.parametrize("content", [b"a: !!python/object/apply:os.system [true]", b"a: [", b"- a\n", b"\xff\xfe\x00"])
def test_a_configuration_is_plain_yaml(tmp_path, weights, content):
    """Objects, broken syntax, and lists in place of a mapping are refused."""
    assert CONFIG in _refusal(write_nemo(tmp_path / "a.nemo", content, weights))


def test_settings_follow_references():
    """From any depth, with and without the top's name; one that leads nowhere, or round and round, is not there."""
    config = {"model": None, "a": {"b": "${model.c}", "d": "${a.d}", "e": "${x.y}"}, "c": "${f}", "f": 7}
    assert setting(config, "a.b") == 7
    assert setting(config, "f.g", 1) == 1
    assert setting(config, "a.e", 2) == 2
    assert setting(config, "nothing", 3) == 3
