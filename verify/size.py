"""How large the artifact is, as a phone would download it."""

from pathlib import Path

from pipeline.types import Measurement, Subject

MEASURES = {"package": "MB", "weights": "MB", "bundle": "MB"}
NEEDS = ("package", "bundle")


def measure(subject: Subject) -> list[Measurement]:
    """Return the sizes of the package, of the weights in it and of the compiled bundle, in MB of 10^6 bytes."""
    package = subject.package
    return [
        _size("package", package),
        _size("weights", package, below="weights"),
        _size("bundle", subject.bundle),
    ]


def _size(name: str, path: Path | None, below: str = "") -> Measurement:
    if path is None:
        return Measurement(name, None, "MB", "this format has none")
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    counted = [f for f in files if not below or f.parent.name == below]
    return Measurement(name, sum(f.stat().st_size for f in counted) / 1e6, "MB", detail={"files": len(counted)})
