"""Is the compiled bundle whole, does it come from this package, and would Apple's compiler have written the same?"""

import filecmp
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from pipeline.types import Measurement, Subject

MEASURES = {"failures": "checks", "unlike_apple": "files"}
NEEDS = ("package", "bundle")


def measure(subject: Subject) -> list[Measurement]:
    """Return how many checks of the bundle against itself and its package fail, and how many of its files differ
    from those of Apple's compiler; the latter has no value where there is no Mac."""
    package, bundle = subject.package, subject.bundle
    if package is None or bundle is None or bundle.suffix != ".mlmodelc":
        return [Measurement(name, None, unit, "not a Core ML program") for name, unit in MEASURES.items()]
    return [_failures(package, bundle), _unlike_apple(package, bundle)]


def _failures(package: Path, bundle: Path) -> Measurement:
    from mil.check_bundle import FAIL, check_bundle

    checks = check_bundle(bundle, package)
    failed = [f"{check.name}: {check.note}" for check in checks if check.outcome == FAIL]
    return Measurement("failures", len(failed), "checks", "; ".join(failed), {c.name: c.outcome for c in checks})


def _unlike_apple(package: Path, bundle: Path) -> Measurement:
    """Compile the package with both compilers, ours under Apple's stamp, and compare what they wrote.

    coremldata.bin is left out: Apple's own is not the same twice, for the order of its map entries varies.
    """
    if platform.system() != "Darwin":
        return Measurement("unlike_apple", None, "files", "needs macOS")
    with tempfile.TemporaryDirectory(prefix="quern-") as scratch:
        theirs, ours = Path(scratch) / "theirs", Path(scratch) / "ours"
        theirs.mkdir()
        named = Path(scratch) / f"{bundle.stem}.mlpackage"
        shutil.copytree(package, named)
        command = ["xcrun", "coremlcompiler", "compile", str(named), str(theirs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return Measurement("unlike_apple", None, "files", f"coremlcompiler: {' '.join(done.stderr.split())}")
        apple = theirs / f"{bundle.stem}.mlmodelc"
        return unlike(_compiled_like(apple, named, ours), apple)


def _compiled_like(apple: Path, package: Path, folder: Path) -> Path:
    """Return our bundle of the package, stamped with the versions that Apple's bundle bears."""
    from mil.bundle import read_text
    from mil.compile import build_info, compile_package

    program, _ = read_text(apple / "model.mil")
    stamp = {name: value for name, value in build_info(program).items() if name.startswith("coremlc-")}
    return compile_package(package, folder, stamp).path


def unlike(ours: Path, theirs: Path) -> Measurement:
    """Return how many files of two bundles differ, or are in one of them only; the note names them."""
    files = {str(p.relative_to(b)) for b in (ours, theirs) for p in b.rglob("*") if p.is_file()}
    compared = sorted(name for name in files if name != "coremldata.bin")
    _, different, missing = filecmp.cmpfiles(ours, theirs, compared, shallow=False)
    found = sorted([*different, *missing])
    return Measurement("unlike_apple", len(found), "files", ", ".join(found), {"compared": len(compared)})
