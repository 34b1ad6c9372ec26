"""variants.yaml → the matrix: which checkpoints exist, which variants of them are built, what is good enough.

Every block under `variants` holds settings and axes. Each combination of axis values is one variant, whose settings
are the block's, overlaid with those of its axis values in the order of the axes; the limits under `limits` lie below
them all, for whatever has the check. The names of the axis values, joined by "-", name the variant; a value called
`default` is not spelled, unless it is all there is.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline import fuse, plugins
from pipeline.options import Complaints, build, convert
from pipeline.types import Checkpoint, ComputeUnits, Limit, Pass, Place, QuernError, Variant
from pipeline.yaml_file import read_yaml


@dataclass(frozen=True)
class Matrix:
    """What variants.yaml declares.

    recordings   folders of audio to measure on, the first that exists is taken; relative to the file's folder
    """

    checkpoints: Mapping[str, Checkpoint]
    variants: tuple[Variant, ...]
    recordings: tuple[str, ...]


@dataclass(frozen=True)
class _Hub:
    repository: str
    revision: str
    files: dict
    gated: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{40}", self.revision):
            raise ValueError(f"revision: expected a commit of 40 hex digits, found {self.revision!r}")
        for name, digest in self.files.items():
            if not re.fullmatch("[0-9a-f]{64}", str(digest)):
                raise ValueError(f"files.{name}: expected a sha256 of 64 hex digits, found {digest!r}")


@dataclass(frozen=True)
class _Checkpoint:
    network: str
    licence: str
    hub: dict | None = None


@dataclass(frozen=True)
class _Joined:
    network: Literal["fused"]
    parts: tuple[str, ...]


@dataclass(frozen=True)
class _Block:
    """The settings of a variant, complete or in part; axis values hold the same ones."""

    file: str = ""
    format: str = "coreml"
    form: dict = field(default_factory=dict)
    convert: dict = field(default_factory=dict)
    optimize: list = field(default_factory=list)
    checks: list = field(default_factory=list)
    limits: dict = field(default_factory=dict)
    checkpoint: list = field(default_factory=list)
    axes: dict = field(default_factory=dict)
    only: dict = field(default_factory=dict)
    functions: dict = field(default_factory=dict)
    check_options: dict = field(default_factory=dict)
    publish: dict = field(default_factory=dict)
    compute_units: dict = field(default_factory=dict)
    on_request: bool = False


@dataclass(frozen=True)
class _Publish:
    """Where artifacts go; `instead` holds other settings for single variants, by id."""

    repository: str
    path: str = "{checkpoint}/{variant}"
    limit_mb: float = 1000
    instead: dict = field(default_factory=dict)


_SECTIONS = ("recordings", "checkpoints", "limits", "variants")
_SETTINGS = tuple(name for name in _Block.__dataclass_fields__ if name not in ("checkpoint", "axes", "only"))


@dataclass(frozen=True)
class _Limit:
    least: float | dict | None = None
    most: float | dict | None = None
    unit: str = ""
    reason: str = ""
    required: Literal["build", "publish"] | None = None


def read_matrix(path: Path) -> Matrix:
    """Read variants.yaml; raises QuernError with everything that is wrong with it, one line each."""
    complaints = Complaints()
    written = _load(path, complaints)
    for name in written:
        if name not in _SECTIONS:
            complaints.unknown(str(name), "section", _SECTIONS)
    checkpoints = _checkpoints(_mapping(written, "checkpoints", complaints), complaints)
    limits = _mapping(written, "limits", complaints) if "limits" in written else {}
    tuple(_limits(limits, "limits", complaints))
    variants = _variants(_mapping(written, "variants", complaints), checkpoints, limits, complaints)
    recordings = convert(tuple[str, ...], written.get("recordings", []), "recordings", complaints)
    if complaints:
        raise QuernError("\n".join(f"{path.name}: {complaint}" for complaint in dict.fromkeys(complaints)))
    return Matrix(checkpoints, variants, recordings)


def _load(path: Path, complaints: Complaints) -> dict:
    written = read_yaml(path, complaints)
    if not isinstance(written, dict):
        raise QuernError(f"{path.name}: expected a mapping with `checkpoints` and `variants`")
    return written


def _mapping(written: Mapping, name: str, complaints: Complaints) -> dict:
    found = written.get(name)
    if not isinstance(found, dict):
        complaints.add(name, "missing" if found is None else "expected a mapping")
        return {}
    return found


def _checkpoints(written: Mapping, complaints: Complaints) -> dict[str, Checkpoint]:
    fused = {name: s for name, s in written.items() if isinstance(s, dict) and s.get("network") == plugins.FUSED}
    own = {name: settings for name, settings in written.items() if name not in fused}
    known = dict(_of_files(own, complaints))
    return known | {name: _joined(name, settings, known, complaints) for name, settings in fused.items()}


def _of_files(written: Mapping, complaints: Complaints) -> Iterator[tuple[str, Checkpoint]]:
    for name, settings in written.items():
        path = f"checkpoints.{name}"
        found = build(_Checkpoint, settings, path, complaints)
        if found is None:
            continue
        if found.network not in plugins.names("network"):
            complaints.unknown(f"{path}.network.{found.network}", "network", plugins.names("network"))
            continue
        hub = _Hub("", "0" * 40, {}) if found.hub is None else build(_Hub, found.hub, f"{path}.hub", complaints)
        if hub is not None:
            yield (
                name,
                Checkpoint(
                    name, found.network, found.licence, hub.repository, hub.revision, hub.gated, dict(hub.files)
                ),
            )


def _joined(name: str, written: Mapping, known: Mapping[str, Checkpoint], complaints: Complaints) -> Checkpoint:
    """Return the checkpoint of a fused network: its parts, each with its own weights and licence."""
    path = f"checkpoints.{name}"
    found = build(_Joined, written, path, complaints)
    parts = found.parts if found else ()
    for part in parts:
        if part not in known:
            complaints.unknown(f"{path}.parts.{part}", "checkpoint", known)
    kept = tuple(known[part] for part in parts if part in known)
    licences = " and ".join(dict.fromkeys(part.licence for part in kept))
    return Checkpoint(name, plugins.FUSED, licences, "", "0" * 40, False, {}, kept)


def _variants(
    written: Mapping, checkpoints: Mapping[str, Checkpoint], limits: Mapping, complaints: Complaints
) -> tuple[Variant, ...]:
    found: dict[str, Variant] = {}
    for name, settings in written.items():
        path = f"variants.{name}"
        block = build(_Block, settings, path, complaints)
        if block is None:
            continue
        for variant in _block_variants(block, settings, path, checkpoints, limits, found, complaints):
            if variant.id in found:
                complaints.add(path, f"'{variant.id}' is declared twice; give an axis value another name")
            found[variant.id] = variant
        for id_ in block.publish.get("instead") or () if not complaints else ():
            if id_ not in found:
                complaints.unknown(f"{path}.publish.instead.{id_}", "variant", found)
    return tuple(found.values())


def _block_variants(
    block: _Block,
    settings: dict,
    path: str,
    checkpoints: Mapping[str, Checkpoint],
    limits: Mapping,
    declared: Mapping[str, Variant],
    complaints: Complaints,
) -> Iterator[Variant]:
    base = {name: settings[name] for name in _SETTINGS if name in settings}
    for id_ in block.checkpoint:
        if id_ not in checkpoints:
            complaints.unknown(f"{path}.checkpoint.{id_}", "checkpoint", checkpoints)
    known = [checkpoints[id_] for id_ in block.checkpoint if id_ in checkpoints]
    axes = list(_axes(block, path, complaints))
    for network in {checkpoint.network for checkpoint in known}:
        for place, fragment in [(path, base), *(value for axis in axes for value in axis.values())]:
            _settings(fragment, network, base, place, complaints)
    if complaints:
        return
    for checkpoint in known:
        for labels in itertools.product(*axes):
            fragments = [axis[label][1] for axis, label in zip(axes, labels, strict=True)]
            if _allowed(fragments, dict(zip(block.axes, labels, strict=True))):
                name = "-".join(label for label in labels if label != "default") or "default"
                merged = _with_common_limits(_overlay(base, *fragments), limits)
                place = f"{path}/{name}"
                parts = _functions(merged.get("functions", {}), checkpoint, declared, place, complaints)
                yield _variant(name, merged, checkpoint, parts, place, complaints)


def _with_common_limits(merged: dict, limits: Mapping) -> dict:
    """Return the settings over the limits that hold for everything that is checked so."""
    common = {name: limit for name, limit in limits.items() if name.split(".")[0] in merged.get("checks", ())}
    return _overlay({"limits": common}, merged)


def _functions(
    written: dict, checkpoint: Checkpoint, declared: Mapping[str, Variant], path: str, complaints: Complaints
) -> dict[str, Variant]:
    """Return the variants of the same checkpoint, declared before, that become functions of one artifact."""
    known = {variant.name: variant for variant in declared.values() if variant.checkpoint is checkpoint}
    for name, variant in written.items():
        if variant not in known:
            complaints.unknown(f"{path}.functions.{name}.{variant}", f"variant of {checkpoint.id} above", known)
    return {str(name): known[variant] for name, variant in written.items() if variant in known}


def _axes(block: _Block, path: str, complaints: Complaints) -> Iterator[dict[str, tuple[str, dict]]]:
    """Yield each axis as label → (path in the file, settings)."""
    for axis, values in block.axes.items():
        if not isinstance(values, dict) or not values:
            complaints.add(f"{path}.axes.{axis}", "expected a mapping from the name of each value to its settings")
            continue
        for label, settings in values.items():
            build(_Block, settings or {}, f"{path}.axes.{axis}.{label}", complaints)
        yield {str(label): (f"{path}.axes.{axis}.{label}", dict(settings or {})) for label, settings in values.items()}


def _allowed(fragments: list[dict], labels: dict[str, str]) -> bool:
    return all(
        labels.get(axis) in [str(label) for label in allowed]
        for fragment in fragments
        for axis, allowed in fragment.get("only", {}).items()
    )


def _overlay(base: dict, *fragments: dict) -> dict:
    """Return the settings of `base` with each fragment laid over it; mappings merge, anything else is replaced."""
    merged = dict(base)
    for fragment in fragments:
        for name, value in fragment.items():
            both = isinstance(value, dict) and isinstance(merged.get(name), dict)
            merged[name] = _overlay(merged[name], value) if both else value
    return merged


def _variant(
    name: str,
    merged: dict,
    checkpoint: Checkpoint,
    functions: Mapping[str, Variant],
    path: str,
    complaints: Complaints,
) -> Variant:
    form, options, passes, limits = _settings(merged, checkpoint.network, merged, path, complaints)
    target = merged.get("format", "coreml")
    checks = tuple(merged.get("checks", ()))
    for limit in limits:
        if limit.measurement.split(".")[0] not in checks:
            complaints.add(f"{path}.limits.{limit.measurement}", "a limit without its check; add the check to `checks`")
        if limit.least is None and limit.most is None:
            complaints.add(f"{path}.limits.{limit.measurement}", "expected `least` or `most`, found neither")
        for word in ("unit", "reason"):
            if not merged["limits"][limit.measurement].get(word):
                complaints.add(f"{path}.limits.{limit.measurement}.{word}", "missing; expected text")
    if not merged.get("file"):
        complaints.add(f"{path}.file", "missing; expected the name of the artifact's file")
    if form and checkpoint.network == plugins.FUSED:
        _check_fused(form, checkpoint, path, complaints)
    if functions:  # what is said of the whole is said of its default function
        default = next(iter(functions.values()))
        form, options = default.form, default.convert
        if not hasattr(plugins.format_(target), "merge"):
            complaints.add(f"{path}.format", "its artifacts have one function; use coreml")
        if merged.get("compute_units"):
            complaints.add(
                f"{path}.compute_units", "each function has its own; set it in the variant that it is made of"
            )
        for check in checks:
            if check in plugins.names("check") and "outputs" in plugins.check(check).NEEDS:
                complaints.add(f"{path}.checks.{check}", "runs one function; use `functions`, which looks at each")
    return Variant(
        name=name,
        file=merged.get("file", ""),
        checkpoint=checkpoint,
        network=checkpoint.network,
        form=form,
        format=target,
        convert=options,
        optimize=passes,
        checks=checks,
        limits=limits,
        functions=functions,
        check_options=dict(_check_options(merged.get("check_options", {}), checks, path, complaints)),
        publish=_place(merged.get("publish"), checkpoint.id, name, f"{path}.publish", complaints),
        compute_units=_compute_units(merged, target, path, complaints),
        on_request=merged.get("on_request", False),
    )


def _place(written: dict | None, checkpoint: str, name: str, path: str, complaints: Complaints) -> Place | None:
    """Return where a variant is published; a path may hold {checkpoint} and {variant}."""
    if not written:
        return None
    instead = convert(dict, written.get("instead", {}), f"{path}.instead", complaints) or {}
    own = convert(dict, instead.get(f"{checkpoint}/{name}", {}), f"{path}.instead.{checkpoint}/{name}", complaints)
    found = build(_Publish, written | (own or {}), path, complaints)
    if found is None:
        return None
    folder = found.path.replace("{checkpoint}", checkpoint).replace("{variant}", name)
    parts = folder.split("/") if folder else []
    if any(not re.fullmatch(r"[\w+-][\w.+-]*", part) for part in parts):
        complaints.add(
            f"{path}.path", f"expected a folder such as v3/fp16 or {{checkpoint}}/{{variant}}, found {found.path!r}"
        )
    if not re.fullmatch(r"([\w-][\w.-]*/)?[\w-][\w.-]*", found.repository):
        complaints.add(f"{path}.repository", f"expected NAME or OWNER/NAME, found {found.repository!r}")
    return Place(found.repository, folder, found.limit_mb)


def _check_options(
    written: dict, checks: tuple[str, ...], path: str, complaints: Complaints
) -> Iterator[tuple[str, Any]]:
    """Yield the options of each check that is set, after complaining of checks that are not made or take none."""
    for name, options in written.items():
        place = f"{path}.check_options.{name}"
        if name not in checks:
            complaints.unknown(place, "check of this variant", checks)
        elif not hasattr(plugins.check(name), "Options"):
            complaints.add(place, "the check takes no options")
        else:
            yield name, build(plugins.check(name).Options, options or {}, place, complaints)  # type: ignore[attr-defined]


def _check_fused(form: fuse.Form, checkpoint: Checkpoint, path: str, complaints: Complaints) -> None:
    if not form.fuse:
        complaints.add(f"{path}.form.fuse", "missing; expected a list of networks")
    have = {part.network for part in checkpoint.parts}
    for stage in form.fuse:
        if () not in plugins.network(stage.network).FILES and stage.network not in have:
            complaints.add(f"checkpoints.{checkpoint.id}.parts", f"no weights for {stage.network}, which {path} fuses")


def _settings(
    written: dict, network: str, whole: dict, path: str, complaints: Complaints
) -> tuple[Any, Any, tuple[Pass, ...], tuple[Limit, ...]]:
    """Return form, convert options, passes and limits, after complaining of everything wrong with them."""
    form = _form(network, written.get("form", {}), f"{path}.form", complaints)
    target = written.get("format", whole.get("format", "coreml"))
    if target not in plugins.names("format"):
        complaints.unknown(f"{path}.format.{target}", "format", plugins.names("format"))
        return form, None, (), ()
    options = build(plugins.format_(target).Options, written.get("convert", {}), f"{path}.convert", complaints)
    passes = tuple(_passes(written.get("optimize", []), f"{path}.optimize", complaints))
    for check in written.get("checks", []):
        if check not in plugins.names("check"):
            complaints.unknown(f"{path}.checks.{check}", "check", plugins.names("check"))
    limits = tuple(_limits(written.get("limits", {}), f"{path}.limits", complaints))
    _compute_units(written, target, path, complaints)
    return form, options, passes, limits


def _compute_units(written: dict, target: str, path: str, complaints: Complaints) -> ComputeUnits | None:
    """Return where a variant should run; None where nothing says so, or its format leaves no choice."""
    if not written.get("compute_units") or target not in plugins.names("format"):
        return None
    place = f"{path}.compute_units"
    known = getattr(plugins.format_(target), "COMPUTE_UNITS", ())
    if not known:
        complaints.add(place, f"{target} leaves no choice of compute units; take it out, or use coreml")
        return None
    found = build(ComputeUnits, written["compute_units"], place, complaints)
    if found and found.recommend not in known:
        complaints.unknown(f"{place}.recommend.{found.recommend}", "compute units", known)
    return found


def _form(network: str, written: Any, path: str, complaints: Complaints) -> Any:
    if network == plugins.FUSED:
        return fuse.read_form(written, path, complaints)
    return build(plugins.network(network).Form, written, path, complaints)


def _passes(written: list, path: str, complaints: Complaints) -> Iterator[Pass]:
    for index, item in enumerate(written):
        place = f"{path}[{index}]"
        if not isinstance(item, dict) or len(item) != 1:
            complaints.add(place, "expected one pass with its options, such as `- palettize: {nbits: 6}`")
            continue
        [(name, options)] = item.items()
        if name not in plugins.names("pass"):
            complaints.unknown(f"{place}.{name}", "pass", plugins.names("pass"))
            continue
        yield Pass(name, build(plugins.pass_(name).Options, options or {}, f"{place}.{name}", complaints))


def _limits(written: dict, path: str, complaints: Complaints) -> Iterator[Limit]:
    for name, settings in written.items():
        place = f"{path}.{name}"
        check, _, measurement = str(name).partition(".")
        if check not in plugins.names("check"):
            complaints.unknown(place.removesuffix(f".{measurement}"), "check", plugins.names("check"))
            continue
        measures = plugins.check(check).MEASURES
        if measurement not in measures:
            complaints.unknown(place, "measurement", measures)
            continue
        found = build(_Limit, settings, place, complaints)
        if found is None:
            continue
        unit = measures[measurement]
        if found.unit and found.unit != unit:
            complaints.add(
                f"{place}.unit", f"expected '{unit}', which is what the check measures, found '{found.unit}'"
            )
        least, synthetic_least = _bound(found.least, f"{place}.least", complaints)
        most, synthetic_most = _bound(found.most, f"{place}.most", complaints)
        yield Limit(name, least, most, (synthetic_least, synthetic_most), unit, found.reason, found.required)


def _bound(written: float | dict | None, path: str, complaints: Complaints) -> tuple[float | None, float | None]:
    """Return a bound for trained and for synthetic weights: one number for both, or a column for either or each."""
    if not isinstance(written, dict):
        return written, written
    for column in written:
        if column not in ("trained", "synthetic"):
            complaints.unknown(f"{path}.{column}", "column", ("trained", "synthetic"))
    trained, synthetic = (
        convert(float, written[column], f"{path}.{column}", complaints) if column in written else None
        for column in ("trained", "synthetic")
    )
    return trained, synthetic
