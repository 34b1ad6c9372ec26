"""variants.yaml says where each artifact is published, and in how many shares the matrix may be built."""

import argparse
from pathlib import Path

import pytest
import yaml

from pipeline.config import read_matrix
from pipeline.publish.arguments import shard
from pipeline.select import by_shard, by_width
from pipeline.types import Place, QuernError
from tests.pipeline.test_config import SMALL


def matrix(tmp_path: Path, publish: dict, **axis_value: dict) -> Path:
    """Write the small matrix with a place for its block and, by label, others for values of its first axis."""
    written = yaml.safe_load(SMALL)
    block = written["variants"]["segmentation"]
    block["publish"] = publish
    for label, settings in axis_value.items():
        block["axes"]["precision"][label]["publish"] = settings
    path = tmp_path / "variants.yaml"
    path.write_text(yaml.safe_dump(written, sort_keys=False))
    return path


def places(path: Path) -> dict[str, Place | None]:
    return {variant.id: variant.publish for variant in read_matrix(path).variants}


def test_a_place_is_laid_over_the_block_as_any_setting(tmp_path: Path) -> None:
    """A block names the repository, an axis value the folder, and one variant something of its own."""
    apart = {"mine/w6": {"repository": "them/apps", "path": ""}}
    found = places(matrix(tmp_path, {"repository": "all", "instead": apart}, fp16={"path": "v3/{variant}"}))
    assert found == {
        "mine/fp16": Place("all", "v3/fp16", 1000),
        "mine/fp16-5s": Place("all", "v3/fp16-5s", 1000),
        "mine/w6": Place("them/apps", "", 1000),
    }


def test_a_variant_without_a_place_stays_here(tmp_path: Path) -> None:
    """Nothing is published that nobody named a place for; neither is a width that nobody declared."""
    assert set(places(matrix(tmp_path, {})).values()) == {None}
    declared = read_matrix(matrix(tmp_path, {"repository": "all"})).variants
    [derived] = by_width(declared, "3")
    assert derived.publish is None


@pytest.mark.parametrize(
    ("publish", "complaint"),
    [
        ({"path": "v3"}, "publish.repository: missing; expected text"),
        ({"repository": "a/b/c"}, "publish.repository: expected NAME or OWNER/NAME, found 'a/b/c'"),
        ({"repository": "a", "path": "../b"}, "publish.path: expected a folder such as v3/fp16"),
        ({"repository": "a", "path": "/b"}, "publish.path: expected a folder such as v3/fp16"),
        ({"repository": "a", "path": "{stem}"}, "publish.path: expected a folder such as v3/fp16"),
        ({"repository": "a", "pth": "b"}, "publish.pth: unknown option; did you mean 'path'?"),
        ({"repository": "a", "instead": {"mine/w": {}}}, "publish.instead.mine/w: unknown variant; did you mean"),
        ({"repository": "a", "instead": {"mine/w6": "b"}}, "publish.instead.mine/w6: expected a mapping, found 'b'"),
    ],
)
def test_a_place_that_cannot_be_is_named(tmp_path: Path, publish: dict, complaint: str) -> None:
    """With its path in the file."""
    with pytest.raises(QuernError) as caught:
        read_matrix(matrix(tmp_path, publish))
    assert complaint in str(caught.value)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_all_of_the_matrix_once(tmp_path: Path, count: int) -> None:
    """In order, none twice, none left out, and no two of them more than one apart in length."""
    variants = read_matrix(matrix(tmp_path, {})).variants * 3
    shares = [by_shard(variants, (index, count)) for index in range(1, count + 1)]
    assert [variant for share in shares for variant in share] == list(variants)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert by_shard(variants, None) == list(variants)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4/2"])
def test_a_share_that_cannot_be_is_refused(text: str) -> None:
    """Of nothing, or beyond the last."""
    with pytest.raises(argparse.ArgumentTypeError, match="expected I/N"):
        shard(text)
