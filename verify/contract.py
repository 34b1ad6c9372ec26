"""Is the artifact what the apps that load it require: names, types, shapes, metadata, files?

The requirements are data, `contracts/*.yaml`; the name of the bundle decides which of them apply. By hand:
`python -m verify contract PATH`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.types import Measurement, Subject

if TYPE_CHECKING:
    from verify.contracts.terms import ModelTerms

MEASURES = {"findings": "findings"}
NEEDS = ("package", "bundle", "sidecars")
READS = ("contracts/*.yaml",)  # files of the project that decide what is measured


def measure(subject: Subject) -> list[Measurement]:
    """Return in how many ways bundle, package and sidecar files are not as a contract has them.

    What is wrong with bundle and package counts once; the detail says which files say so. No value where no contract
    applies.
    """
    if subject.bundle is None or subject.bundle.suffix != ".mlmodelc":
        return [Measurement("findings", None, "findings", "no compiled bundle, whose name would decide the contract")]
    from verify.contracts.terms import contracts, terms_for

    applying = terms_for(subject.bundle.stem, contracts())
    if not applying:
        return [Measurement("findings", None, "findings", f"no contract names {subject.bundle.stem}")]
    paths = [path for path in (subject.package, subject.bundle) if path is not None]
    found = _places(paths, applying) | _beside(subject.sidecars, applying)
    detail = {"contracts": [f"{terms.consumer}: {terms.pattern}" for terms in applying], "findings": found}
    return [Measurement("findings", float(len(found)), "findings", "; ".join(found), detail)]


def _places(paths: list[Path], applying: "tuple[ModelTerms, ...]") -> dict[str, list[str]]:
    """Return what is wrong, a sentence each, and where it is."""
    from verify.contracts.findings import findings

    places: dict[str, list[str]] = {}
    for terms in applying:
        for path in paths:
            for finding in findings(path, terms, None):
                sentence = f"{terms.consumer}: {finding.kind}: {finding.sentence}"
                places.setdefault(sentence, []).append(f"{path.suffix.removeprefix('.')}: {finding.where}")
    return places


def _beside(folder: Path | None, applying: "tuple[ModelTerms, ...]") -> dict[str, list[str]]:
    """Return which files are missing beside the artifact, and what is wrong with those that a contract names."""
    from verify.contracts.findings import companions, findings
    from verify.contracts.terms import contracts, terms_for

    files = sorted(folder.iterdir()) if folder else []
    named = [(terms, file) for file in files for terms in terms_for(file.name, contracts())]
    missing = [(terms, finding) for terms in applying for finding in companions(terms, folder)]
    wrong = [(terms, finding) for terms, file in named for finding in findings(file, terms, None)]
    return {f"{t.consumer}: {each.kind}: {each.sentence}": [f"beside: {each.where}"] for t, each in [*missing, *wrong]}
