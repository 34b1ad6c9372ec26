"""YAML files of ours: read strictly, and everything that is no YAML said in a sentence."""

from collections.abc import Hashable
from pathlib import Path

import yaml

from pipeline.options import Complaints
from pipeline.types import QuernError

_MERGE = "tag:yaml.org,2002:merge"


def read_yaml(path: Path, complaints: Complaints) -> object:
    """Return what a YAML file says, after complaining of every key that one mapping has twice.

    YAML forbids that, and PyYAML would take the last without a word. Raises QuernError for a file that cannot be read
    or is no YAML.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise QuernError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise QuernError(f"{path.name}: not YAML: expected UTF-8, found {error.object[error.start]:#04x}") from None
    loader = _Loader(text)
    loader.complaints = complaints
    try:
        return loader.get_single_data()
    except yaml.YAMLError as error:
        raise QuernError(f"{path.name}: not YAML: {' '.join(str(error).split())}") from None


class _Loader(yaml.SafeLoader):
    """A loader that knows whom to tell of keys that are there twice."""

    complaints: Complaints


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    lines: dict[Hashable, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == _MERGE:
            continue
        key, line = loader.construct_object(key_node), key_node.start_mark.line + 1
        if not isinstance(key, Hashable):
            continue  # which the constructor below refuses
        if key in lines:
            loader.complaints.add(f"line {line}", f"'{key}' is declared twice, first in line {lines[key]}")
        lines.setdefault(key, line)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)
