"""An artifact held against what a consumer requires of it: each way in which it would fail, a sentence."""

import base64
import binascii
import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mil.bundle import read_bundle
from mil.errors import MilError
from mil.package import Package, read_package
from verify import alias
from verify.contracts.accounts import Account, Length, Port, accounts
from verify.contracts.sizes import REST, Bounds, bounds, names_in
from verify.contracts.terms import EncodedTerms, ModelTerms, TensorTerms


@dataclass(frozen=True)
class Finding:
    """One way in which an artifact is not what a consumer requires.

    kind    name, dtype, shape, flexible, metadata, layout, companion, alias or parameters
    where   the file, or files, that say so
    """

    kind: str
    where: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.sentence}"


def findings(path: Path, terms: ModelTerms, beside: Path | None) -> list[Finding]:
    """Return everything about an artifact that is not as the contract has it.

    path     a bundle, a package, or a JSON file of parameters
    beside   the folder where companions must lie; None where that is not known, and not looked at
    """
    if path.suffix == ".json":
        return list(_parameters(path, terms.interface.tensors))
    found = [*_layout(path), *(companions(terms, beside) if beside else ())]
    try:
        package = (read_bundle if path.suffix == ".mlmodelc" else read_package)(path)
        told = accounts(path, package)
    except MilError as error:
        return [*found, Finding("layout", path.name, f"cannot be read: {error}")]
    sizes = {size: number for account in told for size, number in _told_sizes(account, terms).items()} | dict(
        terms.sizes
    )
    broken = (finding for account in told for finding in _account(account, terms, sizes))
    return _joined([*found, *_aliases(package, path.name), *broken])


def _joined(found: list[Finding]) -> list[Finding]:
    """Return findings with what several files say alike said once."""
    places: dict[tuple[str, str], list[str]] = {}
    for finding in found:
        places.setdefault((finding.kind, finding.sentence), []).append(finding.where)
    return [Finding(kind, ", ".join(where), sentence) for (kind, sentence), where in places.items()]


def _layout(path: Path) -> Iterator[Finding]:
    if path.suffix == ".mlmodelc" and not (path / "coremldata.bin").is_file():
        yield Finding("layout", path.name, "expected coremldata.bin at the root, found none; Core ML cannot load it")
    for left in sorted(path.rglob("*.partial")):
        yield Finding("layout", left.relative_to(path).as_posix(), "left over from a download that was not finished")


def companions(terms: ModelTerms, beside: Path | None) -> Iterator[Finding]:
    """Yield the files that must lie beside a model and do not lie in that folder, or in none."""
    for name in terms.interface.companions:
        if not beside or not (beside / name).is_file():
            yield Finding("companion", name, f"{name}: expected beside the model, found none; the app needs both")


def _aliases(package: Package, name: str) -> Iterator[Finding]:
    yield from (Finding("alias", name, sentence) for sentence in alias.findings(package.spec))


def _account(account: Account, terms: ModelTerms, sizes: Mapping[str, int]) -> Iterator[Finding]:
    """Yield what is wrong with what one file says."""
    interface = terms.interface
    if account.metadata is not None:
        yield from _metadata(account.metadata, interface.metadata, terms.sizes, account.where)
    for side, wanted, found in (
        ("input", interface.inputs, account.inputs),
        ("output", interface.outputs, account.outputs),
    ):
        for name, tensor in wanted.items():
            yield from _tensor(side, name, tensor, found, sizes, account.where)
    passed = {name for wanted, tensor in interface.inputs.items() for name in (wanted, *tensor.also)}
    for name, port in account.inputs.items():
        if name not in passed and not port.optional:
            sentence = (
                f"input: requires `{name}`, which {terms.consumer} does not pass; expected {_listed(passed)} only"
            )
            yield Finding("name", account.where, sentence)


def _told_sizes(account: Account, terms: ModelTerms) -> dict[str, int]:
    """Return the sizes that an artifact's own metadata names."""
    texts = account.metadata or {}
    named = {key: size for key, size in terms.interface.metadata.items() if names_in(size) == {size}}
    return {size: int(texts[key]) for key, size in named.items() if texts.get(key, "").isdigit()}


def _metadata(
    found: Mapping[str, str], wanted: Mapping[str, str], sizes: Mapping[str, int], where: str
) -> Iterator[Finding]:
    for key, size in wanted.items():
        expected = bounds(size, sizes) if size else None
        must = f" of {expected[0]}" if expected else ""
        if key not in found:
            yield Finding("metadata", where, f"metadata: expected a string `{key}`{must}, found none")
        elif expected and found[key] != str(expected[0]):
            yield Finding("metadata", where, f"metadata: expected `{key}`{must}, found '{found[key]}'")
        elif size and not found[key].isdigit():
            yield Finding("metadata", where, f"metadata: expected a whole number as `{key}`, found '{found[key]}'")


def _tensor(
    side: str,
    name: str,
    terms: TensorTerms,
    ports: Mapping[str, Port],
    sizes: Mapping[str, int],
    where: str,
) -> Iterator[Finding]:
    taken = next((known for known in (name, *terms.also) if known in ports), None)
    if taken is None:
        near = difflib.get_close_matches(name, ports, n=1)
        hint = f"; is `{near[0]}` meant to be it?" if near else ""
        yield Finding("name", where, f"{side}: expected `{name}`, found {_listed(ports)}{hint}")
        return
    port = ports[taken]
    if terms.dtype and port.dtype != terms.dtype:
        sentence = f"{side} `{taken}`: expected {terms.dtype}, found {port.dtype}{_why_not(port, terms)}"
        yield Finding("dtype", where, sentence)
    if terms.axes is not None:
        yield from (replace(f, where=where) for f in _shape(f"{side} `{taken}`", terms.axes, port, sizes))


def _why_not(port: Port, terms: TensorTerms) -> str:
    if port.dtype == "float16" and terms.contiguous:
        return "; it is read as one block of float32, and rows of float16 are padded"
    return ""


def _shape(what: str, axes: tuple[str, ...], port: Port, sizes: Mapping[str, int]) -> Iterator[Finding]:
    wanted = [bounds(axis, sizes) for axis in axes if axis != REST]
    expected = _shape_text(axes, sizes)
    varies = any(limits is not None and limits[0] < limits[1] for limits in wanted)
    if port.shapes and varies:
        listed = ", ".join(str(list(shape)) for shape in port.shapes[:3])
        sentence = f"{what}: expected a range, {expected}, found a list of {len(port.shapes)} shapes ({listed}, …)"
        yield Finding("flexible", "", f"{sentence}; enumerated shapes crash some systems")
    elif port.shapes:
        if not any(_fits(wanted, axes, tuple((n, n) for n in shape)) for shape in port.shapes):
            yield Finding(
                "shape", "", f"{what}: expected {expected}, found none of {len(port.shapes)} shapes that fits"
            )
    elif port.lengths is not None and not _fits(wanted, axes, port.lengths):
        fixed = varies and _fits(_anywhere(wanted), axes, port.lengths)
        sentence = f"{what}: expected {expected}, found {_lengths_text(port.lengths)}"
        yield Finding("flexible" if fixed else "shape", "", sentence)


def _anywhere(wanted: list[Bounds | None]) -> list[Bounds | None]:
    """Return a shape with axes of any length where it has a range."""
    return [None if limits and limits[0] < limits[1] else limits for limits in wanted]


def _fits(wanted: list[Bounds | None], axes: tuple[str, ...], lengths: tuple[Length, ...]) -> bool:
    if axes[:1] == (REST,):
        lengths = lengths[max(len(lengths) - len(wanted), 0) :]
    return len(wanted) == len(lengths) and all(map(_covers, lengths, wanted))


def _covers(length: Length, limits: Bounds | None) -> bool:
    """Return whether every length within the limits is one that the artifact takes; what is not said counts as such."""
    if length is None or limits is None:
        return True
    low, high = length
    return low <= limits[0] and (high is None or limits[1] <= high)


def _shape_text(axes: tuple[str, ...], sizes: Mapping[str, int]) -> str:
    def one(axis: str) -> str:
        limits = None if axis == REST else bounds(axis, sizes)
        if limits is None or ".." in axis or axis.isdigit():
            return axis
        return f"{limits[0]} ({axis})"

    return f"[{', '.join(map(one, axes))}]"


def _lengths_text(lengths: tuple[Length, ...]) -> str:
    def one(length: Length) -> str:
        if length is None:
            return "?"
        low, high = length
        return str(low) if low == high else f"{low}..{'' if high is None else high}"

    return f"[{', '.join(map(one, lengths))}]"


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "none"


def _parameters(path: Path, wanted: Mapping[str, EncodedTerms]) -> Iterator[Finding]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        yield Finding("parameters", path.name, f"expected JSON, found none that can be read: {error}")
        return
    for place, terms in wanted.items():
        found = _at(content, place)
        if not isinstance(found, str):
            yield Finding("parameters", path.name, f"`{place}`: expected base64, found {type(found).__name__}")
            continue
        sentence = _encoded(found, terms)
        if sentence:
            yield Finding("parameters", path.name, f"`{place}`: {sentence}")


def _at(content: Any, place: str) -> Any:
    for key in place.split("."):
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _encoded(text: str, terms: EncodedTerms) -> str:
    """Return what is wrong with numbers in base64, or nothing."""
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        return f"not base64: {error}"
    dtype = np.dtype(terms.dtype)
    expected = f"expected {terms.count} numbers of {terms.dtype}, {terms.count * dtype.itemsize} bytes"
    if len(content) == terms.count * 8 and dtype.itemsize == 4:
        return f"{expected}, found {len(content)} bytes, as many as of float64; write them as {terms.dtype}"
    if len(content) != terms.count * dtype.itemsize:
        return f"{expected}, found {len(content)} bytes"
    if not np.isfinite(np.frombuffer(content, dtype)).all():
        return f"expected {terms.count} finite numbers, found infinities or NaN"
    return ""
