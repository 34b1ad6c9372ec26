"""JSON in the order and style of Apple's."""

import json
import random
from pathlib import Path

import pytest

from mil.foundation import dictionary_order, string_hash, to_json
from mil.operation_revisions import operation_name
from tests.fixtures import FIXTURES, needs_fixtures

METADATA = sorted([*FIXTURES.glob("apple_pairs/*/*.mlmodelc/*.json"), *FIXTURES.glob("published/*/*.json")])


def test_keys_that_do_not_collide_lie_in_the_order_of_their_hashes() -> None:
    """The systems of `availability` come in the order in which every sample has them."""
    systems = ["iOS", "macOS", "tvOS", "macCatalyst", "visionOS", "watchOS"]
    assert dictionary_order(systems) == ["macOS", "tvOS", "visionOS", "watchOS", "iOS", "macCatalyst"]


def test_no_key_is_lost_while_the_table_grows() -> None:
    """Every key comes out once, however many there are."""
    rng = random.Random(3)
    for count in [*range(60), 500, 6000]:
        keys = [f"key {rng.random()}" for _ in range(count)]
        assert sorted(dictionary_order([*keys, *keys[:3]])) == sorted(keys)


def test_the_hash_of_long_strings_skips_their_middle_parts() -> None:
    """Beyond 96 units only the first, middle and last 32 count, and the length."""
    text = "abcdefgh" * 20
    assert string_hash(text) == string_hash(text[:40] + "#" + text[41:])
    assert string_hash(text) != string_hash("#" + text[1:])
    assert string_hash(text) != string_hash(text + "a")


def test_json_is_spelled_as_apple_spells_it() -> None:
    """Spaces before colons, an empty line in what is empty, slashes escaped, letters of any script as they are."""
    value = [{"k": "a/b\n× \x01", "list": [], "map": {}, "n": 3}]
    text = to_json(value)
    assert '"k" : "a\\/b\\n× \\u0001"' in text
    assert '"list" : [\n\n    ]' in text
    assert '"map" : {\n\n    }' in text
    assert json.loads(text) == value


@needs_fixtures
@pytest.mark.parametrize("path", METADATA, ids=lambda path: path.parent.stem)
def test_apples_files_are_spelled_so(path: Path) -> None:
    """Nothing but the order of keys distinguishes Apple's files from ours of the same values."""
    text = path.read_text()
    assert sorted(to_json(json.loads(text)).replace(",", "").split("\n")) == sorted(text.replace(",", "").split("\n"))


def test_operations_are_named_by_their_last_revision() -> None:
    """A name carries the operation set of the last revision, none where that is the first, and how it is known."""
    assert operation_name("slice_by_index", "ios15").text == "SliceByIndex"
    assert operation_name("conv", "ios16").text == "Ios16.conv"
    assert operation_name("slice_by_index", "ios17").text == "Ios17.sliceByIndex"
    assert operation_name("relu", "ios17").text == "Ios16.relu"
    assert operation_name("softmax", "ios16").mark == "inferred"
    assert operation_name("an_operation_of_tomorrow", "ios17").mark == "no row"
