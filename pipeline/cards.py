"""The model card of a release, written from its provenance: nothing in it is typed by hand."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from mil.compute_units import COMPUTE_UNITS
from pipeline.publish.licences import NONE, Licence, known

# The systems that go with each deployment target, as coremltools.target pairs them.
SYSTEMS = {
    "iOS15": "iOS 15, macOS 12, tvOS 15, watchOS 8",
    "iOS16": "iOS 16, macOS 13, tvOS 16, watchOS 9",
    "iOS17": "iOS 17, macOS 14, tvOS 17, watchOS 10",
    "iOS18": "iOS 18, macOS 15, tvOS 18, watchOS 11",
}
NOT_RUN = "not run"

Document = Mapping[str, Any]


def card(document: Document) -> str:
    """Return README.md for a release: YAML for the hub, then Markdown for people."""
    sections = (
        _head(document),
        _models(document),
        _loading(document),
        _compute_units(document),
        _interfaces(document),
        _measured(document),
        _not_run(document),
        _elsewhere(document),
        _sources(document),
    )
    front = yaml.safe_dump(_front_matter(document), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join("\n".join(lines) for lines in map(list, sections) if lines) + "\n"


def _front_matter(document: Document) -> dict[str, Any]:
    licences = {found["licence"] for found in document["inputs"]} - {NONE}
    formats = sorted({artifact["format"] for artifact in document["artifacts"]})
    sources = sorted({found["repository"] for found in document["inputs"] if found["repository"]})
    return {
        **_licence(sorted(licences)),
        **({"library_name": formats[0]} if len(formats) == 1 else {}),
        "tags": ["speaker-diarization", *formats],
        **({"base_model": sources} if sources else {}),
    }


def _licence(licences: Sequence[str]) -> dict[str, str]:
    found = [known()[name] for name in licences if name in known()]
    if len(licences) == 1 and found and found[0].hub != "other":
        return {"license": found[0].hub}
    if len(licences) == 1 and found:
        return {"license": "other", "license_name": licences[0].lower(), "license_link": found[0].url}
    return {"license": "other", "license_name": "-and-".join(licences).lower() or NONE}


def _head(document: Document) -> Iterator[str]:
    code, artifacts = document["code"], document["artifacts"]
    name = f"[Quern]({code['url']})" if code["url"] else "Quern"
    yield f"# {document['repository'].split('/')[-1]}"
    yield ""
    yield (
        f"{_counted(len(artifacts), 'model')} for speaker diarization on devices, built by {name} at revision "
        f"`{code['revision']}`. `provenance.json` names every input and every file by its digest; "
        "`python -m verify provenance DIR` says whether a download is intact. This page is written from it."
    )


def _models(document: Document) -> Iterator[str]:
    yield "## Models"
    yield ""
    yield from _table(
        ("file", "made from", "oldest systems", "MB", "checks passed / not run"),
        [_model_row(artifact, file) for artifact in document["artifacts"] for file in names(artifact)],
    )


def _model_row(artifact: Document, file: str) -> tuple[str, ...]:
    size = sum(entry["size_bytes"] for path, entry in artifact["files"].items() if _inside(path, place(artifact, file)))
    outcomes = [result["outcome"] for result in artifact["checks"]]
    return (
        f"`{place(artifact, file)}`",
        ", ".join(artifact["made_from"]),
        SYSTEMS.get(artifact["convert"].get("target", ""), "any"),
        f"{size / 1e6:.2f}",
        f"{outcomes.count('pass')} / {outcomes.count(NOT_RUN)}",
    )


def names(artifact: Document) -> list[str]:
    """Return what stands in an artifact's folder: the model, its compiled form, and the files beside them."""
    start = f"{artifact['path']}/" if artifact["path"] else ""
    return sorted({path.removeprefix(start).split("/")[0] for path in artifact["files"]})


def place(artifact: Document, name: str) -> str:
    """Return the path in the repository of something in an artifact's folder."""
    return f"{artifact['path']}/{name}" if artifact["path"] else name


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _loading(document: Document) -> Iterator[str]:
    first = {artifact["format"]: artifact for artifact in reversed(document["artifacts"])}
    if not first.keys() & {"coreml", "onnx"}:
        return
    yield "## Loading"
    if "coreml" in first:
        yield from ("", "In an app:", "", "```swift", *swift(first["coreml"]), "```")
        yield from ("", "On a Mac:", "", "```python", *python(document["repository"], first["coreml"]), "```")
        without = python(document["repository"], first["coreml"], mac=False)
        yield from ("", "On any machine, by Quern's interpreter:", "", "```python", *without, "```")
    if "onnx" in first:
        yield from ("", "With onnxruntime:", "", "```python", *python(document["repository"], first["onnx"]), "```")


def swift(artifact: Document) -> Iterator[str]:
    """Yield Swift that loads the compiled form of a Core ML artifact and runs it once, on zeros."""
    bundle = next(name for name in names(artifact) if name.endswith(".mlmodelc"))
    yield "import CoreML"
    yield ""
    yield "let configuration = MLModelConfiguration()"
    yield f"configuration.computeUnits = .{_units(artifact)}"
    yield f'let url = URL(fileURLWithPath: "{place(artifact, bundle)}")'
    yield "let model = try MLModel(contentsOf: url, configuration: configuration)"
    for tensor in artifact["inputs"]:
        shape = ", ".join(str(length) for length in _lengths(tensor))
        yield f"let {_word(tensor)} = try MLMultiArray(shape: [{shape}], dataType: .{tensor['dtype']})"
    passed = ", ".join(f'"{tensor["name"]}": {_word(tensor)}' for tensor in artifact["inputs"])
    yield f"let inputs = try MLDictionaryFeatureProvider(dictionary: [{passed}])"
    yield "let outputs = try model.prediction(from: inputs)"
    for tensor in artifact["outputs"]:
        yield f'let {_word(tensor)}Out = outputs.featureValue(for: "{tensor["name"]}")!.multiArrayValue!'


def python(repository: str, artifact: Document, mac: bool = True) -> Iterator[str]:
    """Yield Python that fetches an artifact from the hub, loads it and runs it once, on zeros."""
    chosen = f", compute_units=coremltools.ComputeUnit.{COMPUTE_UNITS[_units(artifact)]}"
    predict = "model.predict(inputs)"
    suffix, module, load, run = {
        ("coreml", True): (".mlpackage", "coremltools", f"coremltools.models.MLModel(path{chosen})", predict),
        ("coreml", False): (".mlpackage", "mil", "mil.load(path)", predict),
    }.get(
        (artifact["format"], mac),
        (".onnx", "onnxruntime", "onnxruntime.InferenceSession(path)", "model.run(None, inputs)"),
    )
    file = place(artifact, next(name for name in names(artifact) if name.endswith(suffix)))
    yield from (line for line in (f"import {module}", "import numpy as np") if line)
    yield "from huggingface_hub import snapshot_download"
    yield ""
    yield f'folder = snapshot_download("{repository}", allow_patterns="{file}*")'
    yield f'path = f"{{folder}}/{file}"'
    yield f"model = {load}"
    yield "inputs = {"
    for tensor in artifact["inputs"]:
        yield f'    "{tensor["name"]}": np.zeros({_lengths(tensor)}, np.{tensor["dtype"]}),'
    yield "}"
    yield f"outputs = {run}"


def _units(artifact: Document) -> str:
    """Return the compute units that are recommended for an artifact, or for its first function."""
    return next((units["recommend"] for units in artifact.get("compute_units", {}).values()), "all")


def _compute_units(document: Document) -> Iterator[str]:
    groups: dict[tuple[str, str], list[str]] = {}
    for artifact in document["artifacts"]:
        for function, units in artifact.get("compute_units", {}).items():
            what = f"`{artifact['variant']}`" + (f" {function}" if artifact["functions"] else "")
            groups.setdefault((units["recommend"], units["source"]), []).append(what)
    if groups:
        yield from ("## Compute units", "", "What others recommend who ran such models.", "")
        yield from _table(
            ("model", "compute units", "source"),
            [(", ".join(models), f"`{recommended}`", source) for (recommended, source), models in groups.items()],
        )


def _lengths(tensor: Document) -> tuple[int, ...]:
    return tuple(length if isinstance(length, int) else length["low"] for length in tensor["shape"])


def _word(tensor: Document) -> str:
    """Return the name of a tensor as Swift writes names."""
    first, *others = tensor["name"].split("_")
    return first + "".join(part.capitalize() for part in others)


def _interfaces(document: Document) -> Iterator[str]:
    yield "## Inputs and outputs"
    groups: dict[str, list[Document]] = {}
    for artifact in document["artifacts"]:
        groups.setdefault(json.dumps([artifact["inputs"], artifact["outputs"]]), []).append(artifact)
    for alike in groups.values():
        rows = [
            (kind, f"`{tensor['name']}`", _shape(tensor), tensor["dtype"], tensor["unit"])
            for kind, tensors in (("input", alike[0]["inputs"]), ("output", alike[0]["outputs"]))
            for tensor in tensors
        ]
        yield ""
        yield ", ".join(f"`{artifact['variant']}`" for artifact in alike) + ":"
        yield ""
        yield from _table(("", "name", "shape", "type", "a value is"), rows)


def _shape(tensor: Document) -> str:
    lengths = (str(n) if isinstance(n, int) else f"{n['low']}–{n['high']}" for n in tensor["shape"])
    return " × ".join(f"{length} {axis}" for length, axis in zip(lengths, tensor["axes"], strict=True))


def _measured(document: Document) -> Iterator[str]:
    yield "## What was measured"
    checks = dict.fromkeys(result["name"].split(".")[0] for a in document["artifacts"] for result in a["checks"])
    for check in checks:
        rows = list(_check_rows(document["artifacts"], check))
        if rows[1:]:
            yield from ("", f"### {check}", "", *_table(rows[0], rows[1:]))
    if document["recordings"]:
        yield ""
        yield f"Measured on {_counted(len(document['recordings']), 'recording')}: {', '.join(document['recordings'])}."


def _check_rows(artifacts: Iterable[Document], check: str) -> Iterator[tuple[str, ...]]:
    """Yield the head and one row for each artifact with any number: each measurement, and its limit."""
    found = [(a, {r["name"]: r for r in a["checks"] if r["name"].split(".")[0] == check}) for a in artifacts]
    columns = {name: result["unit"] for _, results in found for name, result in results.items()}
    yield ("model", *(f"{name.partition('.')[2]} ({unit})" for name, unit in columns.items()))
    for artifact, results in found:
        if any(result["measured"] is not None for result in results.values()):
            yield (f"`{artifact['variant']}`", *(_cell(results.get(name)) for name in columns))


def _cell(result: Document | None) -> str:
    if result is None:
        return "–"
    return NOT_RUN if result["measured"] is None else f"{result['measured']:.6g} ({result['limit']})"


def _not_run(document: Document) -> Iterator[str]:
    missing: dict[tuple[str, str], list[str]] = {}
    for artifact in document["artifacts"]:
        for result in artifact["checks"]:
            if result["outcome"] == NOT_RUN:
                missing.setdefault((result["name"], result["note"]), []).append(artifact["variant"])
    if not missing:
        return
    yield "## What was not run"
    yield ""
    rows = [(name, note, _counted(len(ids), "model")) for (name, note), ids in sorted(missing.items())]
    yield from _table(("check", "why", "of"), rows)


def _elsewhere(document: Document) -> Iterator[str]:
    """Name the machines that measured what the one that built could not."""
    where: dict[tuple[str, ...], set[str]] = {}
    for result in (result for artifact in document["artifacts"] for result in artifact["checks"]):
        if host := result.get("measured_on"):
            machine = host.get("chip") or host["machine"]
            where.setdefault((f"{host['system']} {host['version']}", machine, host["day"]), set()).add(result["name"])
    if where:
        yield "## What was measured on another machine"
        yield ""
        rows = [(*host, ", ".join(sorted(found))) for host, found in sorted(where.items())]
        yield from _table(("system", "machine", "day", "checks"), rows)


def _sources(document: Document) -> Iterator[str]:
    yield "## Sources and licences"
    yield ""
    yield from _table(
        ("input", "source", "licence", "what it asks for"), [_source_row(found) for found in document["inputs"]]
    )
    yield ""
    yield "The models were changed: converted, and compressed where `provenance.json` says so."


def _source_row(found: Document) -> tuple[str, ...]:
    repository, revision = found["repository"], found["revision"]
    link = f"[{repository}](https://huggingface.co/{repository}/tree/{revision})" if repository else "not from the hub"
    licence = known().get(found["licence"], Licence("other", "", False, "not known"))
    linked = f"[{found['licence']}]({licence.url})" if licence.url else found["licence"]
    untrained = found["weights"] == NONE
    return (found["id"], "its definition; nothing is trained" if untrained else link, linked, licence.attribution)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in row)} |"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
