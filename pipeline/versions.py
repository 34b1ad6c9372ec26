"""The versions of the tools whose work ends up in the bytes of an artifact."""

from functools import cache
from importlib.metadata import version


@cache
def versions(*packages: str) -> dict[str, str]:
    """Return the public version of each package: `2.13.0+cpu` and `2.13.0` build the same artifacts."""
    return {package: version(package).split("+")[0] for package in packages}
