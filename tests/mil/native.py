"""coremltools' native modules, loaded without `import coremltools`."""

import importlib.util
from pathlib import Path
from types import ModuleType


def load_native(name: str) -> ModuleType:
    """Return `libmilstoragepython` or `libmodelpackage`."""
    (folder,) = importlib.util.find_spec("coremltools").submodule_search_locations
    spec = importlib.util.spec_from_file_location(name, Path(folder) / f"{name}.so")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
