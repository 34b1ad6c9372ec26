"""Core ML's protobuf classes, without the weight of `import coremltools`.

`import coremltools` takes seconds and hundreds of megabytes, because its `__init__` reaches for torch, scikit-learn
and the converters. The generated protobuf modules need none of that, so they are imported here as members of a
package whose `__init__` has not run. A later `import coremltools` gets the full package and the same classes.
"""

import importlib
import importlib.util
import sys
import types
from typing import Any

from mil.errors import MilError


def _import_protobuf_modules() -> tuple[Any, Any, Any]:
    names = [f"coremltools.proto.{module}" for module in ("Model_pb2", "MIL_pb2", "FeatureTypes_pb2")]
    if "coremltools" in sys.modules:
        model, program, features = (importlib.import_module(name) for name in names)
        return model, program, features
    found = importlib.util.find_spec("coremltools")
    if found is None or found.submodule_search_locations is None:
        raise MilError("Core ML's protobuf classes are not installed: pip install coremltools==9.0")
    bare = types.ModuleType("coremltools")
    bare.__path__ = list(found.submodule_search_locations)
    sys.modules["coremltools"] = bare
    try:
        model, program, features = (importlib.import_module(name) for name in names)
    finally:
        del sys.modules["coremltools"]
    return model, program, features


Model_pb2, MIL_pb2, FeatureTypes_pb2 = _import_protobuf_modules()
