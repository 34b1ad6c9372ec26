"""The steps of the straight line: for each, its recipe and the work.

A recipe names everything that decides the result: options, digests of what is read, the code that does the work and
the versions of the tools. A runner's code stands only in the recipes of what runs.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pipeline import plugins
from pipeline.code import ROOT, code_digest, package_digest
from pipeline.plugins import functions
from pipeline.recipe import key
from pipeline.store import Store
from pipeline.tensors import read_tensors, write_tensors
from pipeline.types import Artifact, Calibration, Example, Measurement, Pass, Recording, Runner, Step, Subject, Variant
from pipeline.variation import near, varied
from pipeline.versions import versions
from pipeline.weights import SEED, Source, input_digest

WEIGHTS_FILE = "weights.safetensors"
OUTPUTS_FILE = "outputs.safetensors"

# Of each recording that is calibrated on.
_VARIATIONS = 18
EXAMPLES_FILE = "examples.safetensors"


@dataclass(frozen=True)
class Audio:
    """What is measured on: recordings, and whether all that can be made of them or the usual share.

    recorded   the examples, where our own network has to make them
    """

    recordings: tuple[Path, ...]
    thorough: bool = False
    recorded: Artifact | None = None


def state(variant: Variant, source: Source, take: Callable[[Step], Artifact]) -> Artifact:
    """Return the weights of a variant's network; those of a fused one are put together from those of its stages."""
    parts = variant.checkpoint.parts
    if not parts:
        return take(weights(variant.network, source))
    return take(joined_weights({part.network: take(weights(part.network, source.parts[part.id])) for part in parts}))


def weights(name: str, source: Source) -> Step:
    """Read a checkpoint of a network, checked and stripped to its tensors, or make its stand-in."""
    network = plugins.network(name)
    made = source.kind == "synthetic"
    recipe = {
        "step": "weights",
        "network": name,
        "source": {"seed": SEED} if made else dict(source.digests),
        "code": code_digest(network.synthetic if made else network.read),
        "versions": versions("numpy", "safetensors"),
    }

    def run(folder: Path) -> None:
        state = network.synthetic(SEED) if made else network.read(dict(source.files))
        write_tensors(state, folder / WEIGHTS_FILE)

    return Step("weights", recipe, run)


def joined_weights(parts: Mapping[str, Artifact]) -> Step:
    """Put the weights of several networks into one file, each tensor under "<network>/<name>"."""
    recipe = {"step": "weights", "parts": {network: state.digest for network, state in parts.items()}}

    def run(folder: Path) -> None:
        states = {network: read_tensors(state.path / WEIGHTS_FILE) for network, state in parts.items()}
        joined = {f"{network}/{name}": tensor for network, state in states.items() for name, tensor in state.items()}
        write_tensors(joined, folder / WEIGHTS_FILE)

    return Step("weights", recipe, run, tuple(parts.values()))


def sidecars(variant: Variant, state: Artifact) -> Step | None:
    """Write the files that stand beside the artifact, for a network that has any."""
    network = plugins.network(variant.network)
    if not hasattr(network, "sidecars"):
        return None
    recipe = {
        "step": "sidecars",
        "form": asdict(variant.form),
        "weights": state.digest,
        "code": code_digest(*functions(variant.network, variant.form, "sidecars")),
        "versions": versions("numpy"),
    }

    def run(folder: Path) -> None:
        for name, content in network.sidecars(read_tensors(state.path / WEIGHTS_FILE), variant.form).items():
            (folder / name).write_bytes(content)

    return Step("sidecars", recipe, run, (state,))


def convert(variant: Variant, state: Artifact, options: Any) -> Step:
    """Convert our network with these weights into an artifact of the variant's format."""
    network, target = plugins.network(variant.network), plugins.format_(variant.format)
    metadata = network.metadata(variant.form)
    recipe = {
        "step": "convert",
        "network": variant.network,
        "form": asdict(variant.form),
        "format": variant.format,
        "options": asdict(options),
        "metadata": metadata,
        "weights": state.digest,
        "code": code_digest(*functions(variant.network, variant.form, "load", "inputs", "outputs"), target.convert),
        "versions": versions("torch", "numpy", *target.TOOLS),
    }

    def run(folder: Path) -> None:
        tensors = read_tensors(state.path / WEIGHTS_FILE)
        module = network.load(tensors, variant.form)
        module.trained = tensors
        inputs, outputs = network.inputs(variant.form), network.outputs(variant.form)
        target.convert(module, inputs, outputs, metadata, options, artifact_path(folder, variant))

    return Step("convert", recipe, run, (state,))


def optimize(variant: Variant, chosen: Pass, artifact: Artifact, store: Store, audio: Audio) -> Step:
    """Run one pass over a converted program; a pass that calibrates depends on recordings and on what runs programs."""
    module = plugins.pass_(chosen.name)
    code = code_digest(module.apply)
    recipe = {
        "step": chosen.name,
        "options": asdict(chosen.options),
        "input": artifact.digest,
        "code": code,
        "versions": versions("numpy", "numba", "protobuf"),
    }
    extra: tuple[Calibration | None, ...] = ()
    if hasattr(module, "calibrated"):
        needed = module.calibrated(chosen.options)
        extra = (calibration(variant, audio, lambda text: store.watch(f"{chosen.name}: {text}")) if needed else None,)
    if any(extra):  # the recordings decide
        recipe["examples"] = _calibrating(variant, audio)

    def run(folder: Path) -> None:
        used: list[str] = []

        def memo(facts: Mapping[str, Any], compute: Callable[[Path], None], resumes: bool = False) -> Path:
            name = f"{chosen.name}-part"
            step = Step(name, {"step": name, "facts": dict(facts), "code": code}, compute, resumes=resumes)
            used.append(key(step.recipe))
            return store.get(step).path

        source, destination = artifact_path(artifact.path, variant), artifact_path(folder, variant)
        findings = module.apply(source, chosen.options, memo, destination, *extra)
        (folder / "findings.json").write_text(json.dumps(findings, indent=1, sort_keys=True))
        store.note_uses(folder, used)

    return Step(chosen.name, recipe, run, (artifact,))


def merge(variant: Variant, parts: Mapping[str, Artifact]) -> Step:
    """Make one artifact whose functions are the artifacts of several variants; the first is the default."""
    target = plugins.format_(variant.format)
    assert hasattr(target, "merge"), "the matrix was checked"
    recipe = {
        "step": "merge",
        "functions": {name: part.digest for name, part in parts.items()},
        "default": next(iter(parts)),
        "code": code_digest(target.merge),
        "versions": versions("protobuf"),
    }

    def run(folder: Path) -> None:
        packages = {name: artifact_path(part.path, variant) for name, part in parts.items()}
        target.merge(packages, next(iter(parts)), artifact_path(folder, variant))

    return Step("merge", recipe, run, tuple(parts.values()))


def label(variant: Variant, artifact: Artifact, kind: str) -> Step:
    """Write into an artifact whose weights of which kind these are, and where it should run.

    All that is computed is done before, so that checkpoints of equal weights share it, and other words compute nothing.
    """
    target = plugins.format_(variant.format)
    strings = {
        "quern.weights": _provenance(variant, kind),
        "quern.licence": variant.checkpoint.licence,
        **_recommended(variant),
    }
    recipe = {
        "step": "label",
        "input": artifact.digest,
        "strings": strings,
        "code": code_digest(target.label),
        "versions": versions(*target.TOOLS),
    }

    def run(folder: Path) -> None:
        target.label(artifact_path(artifact.path, variant), strings, artifact_path(folder, variant))

    return Step("label", recipe, run, (artifact,))


def calibration(variant: Variant, audio: Audio, tell: Callable[[str], None] = lambda text: None) -> Calibration | None:
    """Return examples for a pass: every third recording by name is held out, from the third on."""
    if not audio.recordings:
        return None
    held_out = audio.recordings[2::3]
    kept = tuple(path for path in audio.recordings if path not in held_out)
    return Calibration(
        calibrate=lambda: examples(variant, Audio(kept)),
        held_out=lambda: examples(variant, Audio(held_out)),
        outputs=plugins.network(variant.network).outputs(variant.form),
        facts=_calibrating(variant, audio),
        run=lambda runner, inputs: driven(variant, runner)(inputs),
        varied=lambda: _examples_of(variant, varied([_recording(path) for path in kept], _VARIATIONS)),
        near=lambda number: _examples_of(variant, [near(_recording(kept[number % len(kept)]), number)]),
        tell=tell,
    )


def _calibrating(variant: Variant, audio: Audio) -> dict[str, Any]:
    """Return what decides the examples of a calibration and how they are run."""
    return examples_recipe(variant, audio) | {
        "runner": {"code": package_digest("mil/ops"), **versions("torch")},
        "driving": code_digest(*_driving(variant)),
        "variations": [_VARIATIONS, code_digest(varied, near)],
    }


def decisions(artifact: Artifact) -> Any:
    """Return what a pass decided by itself, from its folder in the store; None where it only did as it was told."""
    return json.loads((artifact.path / "findings.json").read_text()).get("decided")


def compile_(variant: Variant, artifact: Artifact, compiler: str) -> Step:
    """Compile an artifact into the form that a device loads."""
    target = plugins.format_(variant.format)
    recipe = {
        "step": "compile",
        "input": artifact.digest,
        "name": variant.file,
        "compiler": target.compiler(compiler),
        "code": code_digest(target.compile),
    }

    def run(folder: Path) -> None:
        target.compile(artifact_path(artifact.path, variant), variant.file, compiler, folder)

    return Step("compile", recipe, run, (artifact,))


def program_outputs(variant: Variant, artifact: Artifact, precision: str, audio: Audio) -> Step:
    """Run a converted program on every example."""
    recipe = {"step": "outputs", "program": artifact.digest, **_running(variant, precision, audio)}

    def run(folder: Path) -> None:
        _run_program(variant, artifact_path(artifact.path, variant), precision, audio, folder)

    return Step("outputs", recipe, run, (artifact,))


def _running(variant: Variant, precision: str, audio: Audio) -> dict[str, Any]:
    """Return what decides the outputs of a program beside the program."""
    target = plugins.format_(variant.format)
    return {
        "precision": precision,
        "examples": examples_recipe(variant, audio),
        "code": [code_digest(target.runner, *_driving(variant)), package_digest("mil/ops")],
        "versions": versions("torch", "numpy", *target.TOOLS),
    }


def _run_program(variant: Variant, artifact: Path, precision: str, audio: Audio, folder: Path) -> None:
    runner = plugins.format_(variant.format).runner(artifact, precision)
    write_outputs(variant, runner, audio, folder / OUTPUTS_FILE)


def exact_outputs(variant: Variant, state: Artifact, audio: Audio) -> Step:
    """Convert without loss of precision and run every example; the program, as large as it gets, is not kept."""
    converted = convert(variant, state, _exact(variant))
    running = _running(variant, "float32", audio)
    recipe = {"step": "outputs", "program": dict(converted.recipe), **running}

    def run(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="quern-", dir=folder) as scratch:
            converted.run(Path(scratch))
            _run_program(variant, artifact_path(Path(scratch), variant), "float32", audio, folder)

    return Step("outputs", recipe, run, (state,))


def is_exact(variant: Variant) -> bool:
    """Return whether a variant computes in single precision throughout: what comes in and goes out is in it, too."""
    network = plugins.network(variant.network)
    tensors = (*network.inputs(variant.form), *network.outputs(variant.form))
    halves = any(tensor.dtype == "float16" for tensor in tensors)
    return bool(variant.convert == _exact(variant)) and not variant.optimize and not halves


def _exact(variant: Variant) -> Any:
    return plugins.format_(variant.format).exact(variant.convert)


def network_outputs(variant: Variant, state: Artifact, audio: Audio) -> Step:
    """Run our network, before any conversion, on every example."""
    recipe = {
        "step": "outputs",
        "network": variant.network,
        "weights": state.digest,
        "examples": examples_recipe(variant, audio),
        "code": code_digest(*functions(variant.network, variant.form, "load", "inputs", "outputs"), *_driving(variant)),
        "versions": versions("torch", "numpy"),
    }

    def run(folder: Path) -> None:
        write_outputs(variant, module_runner(variant, state), audio, folder / OUTPUTS_FILE)

    return Step("outputs", recipe, run, (state,))


def check(name: str, subject: Subject, inputs: Sequence[Artifact], facts: Mapping[str, Any]) -> Step:
    """Measure; the limits stand elsewhere, so that changing one measures nothing again."""
    module = plugins.check(name)
    recipe = {
        "step": "check",
        "check": name,
        "facts": dict(facts),
        "outputs": [asdict(tensor) for tensor in subject.outputs],
        "code": code_digest(module.measure),
        "reads": {str(path.relative_to(ROOT)): input_digest(path) for path in _read_by(module)},
    }

    def run(folder: Path) -> None:
        found = [asdict(measurement) for measurement in module.measure(subject)]
        (folder / "measurements.json").write_text(json.dumps(found, indent=1))

    return Step(name, recipe, run, tuple(inputs))


def _read_by(check: Any) -> list[Path]:
    """Return the files of ours that a check reads beside its code, which it names as globs."""
    return [path for glob in getattr(check, "READS", ()) for path in sorted(ROOT.glob(glob))]


def measurements(artifact: Artifact) -> list[Measurement]:
    """Return what a check found, from its folder in the store."""
    return [Measurement(**found) for found in json.loads((artifact.path / "measurements.json").read_text())]


def artifact_path(folder: Path, variant: Variant) -> Path:
    """Return where a step keeps the artifact of a variant."""
    return folder / f"model{plugins.format_(variant.format).SUFFIX}"


def bundle_path(folder: Path, variant: Variant) -> Path:
    """Return where a step keeps the compiled form of a variant's artifact."""
    return next(folder.glob(f"{variant.file}.*"))


def examples_recipe(variant: Variant, audio: Audio) -> dict[str, Any]:
    """Return what decides the examples that a variant is run on."""
    if audio.recorded:
        return {"recorded": audio.recorded.digest}
    return {
        "form": asdict(variant.form),
        "recordings": {path.name: input_digest(path) for path in audio.recordings},
        "thorough": audio.thorough,
        "code": code_digest(*functions(variant.network, variant.form, "examples")),
    }


def labels_recipe(recordings: Sequence[Path]) -> dict[str, str]:
    """Return the digests of recordings, and of the labels that lie beside them."""
    folders = dict.fromkeys(path.parent for path in recordings)
    labels = [path for folder in folders for path in sorted(folder.glob("*.rttm"))]
    return {path.name: input_digest(path) for path in [*recordings, *labels]}


def examples(variant: Variant, audio: Audio) -> Iterator[Example]:
    """Yield the inputs that a variant's network is measured on."""
    if audio.recorded:
        return _recorded_examples(audio.recorded)
    return _examples_of(variant, [_recording(path) for path in audio.recordings], audio.thorough)


def _examples_of(variant: Variant, recordings: Sequence[Recording], thorough: bool = False) -> Iterator[Example]:
    return plugins.network(variant.network).examples(variant.form, recordings, thorough)


def _recorded_examples(recorded: Artifact) -> Iterator[Example]:
    named = read_tensors(recorded.path / EXAMPLES_FILE)
    for example in dict.fromkeys(name.rpartition("/")[0] for name in named):
        prefix = f"{example}/"
        yield Example(example, {n.removeprefix(prefix): array for n, array in named.items() if n.startswith(prefix)})


def with_recorded(variant: Variant, state: Artifact, audio: Audio, take: Callable[[Step], Artifact]) -> Audio:
    """Return the audio with the examples that only our own network can make, for networks that want such."""
    network = plugins.network(variant.network)
    if not hasattr(network, "is_recorded") or not network.is_recorded(variant.form, audio.thorough):
        return audio
    return replace(audio, recorded=take(_recorded(variant, state, audio)))


def _recorded(variant: Variant, state: Artifact, audio: Audio) -> Step:
    network = plugins.network(variant.network)
    assert hasattr(network, "recorded"), "who says that examples are recorded records them"
    recipe = {
        "step": "recorded",
        "weights": state.digest,
        "form": asdict(variant.form),
        "recordings": {path.name: input_digest(path) for path in audio.recordings},
        "code": code_digest(network.recorded),
        "versions": versions("torch", "numpy"),
    }

    def run(folder: Path) -> None:
        recordings = [_recording(path) for path in audio.recordings]
        found = network.recorded(read_tensors(state.path / WEIGHTS_FILE), variant.form, recordings)
        named = {f"{example.name}/{name}": array for example in found for name, array in example.inputs.items()}
        write_tensors(named, folder / EXAMPLES_FILE)

    return Step("recorded", recipe, run, (state,))


@cache
def _recording(path: Path) -> Recording:
    from diarization.audio import read_recording

    return read_recording(path)


def module_runner(variant: Variant, state: Artifact) -> Runner:
    """Return our torch module as a runner."""
    import torch

    network = plugins.network(variant.network)
    module = network.load(read_tensors(state.path / WEIGHTS_FILE), variant.form)
    inputs = [tensor.name for tensor in network.inputs(variant.form)]
    outputs = [tensor.name for tensor in network.outputs(variant.form)]

    def run(arrays: dict[str, Any]) -> dict[str, Any]:
        with torch.inference_mode():
            result = module(*(_widened(torch.from_numpy(arrays[name])) for name in inputs))
        results = result if isinstance(result, tuple) else (result,)
        return {name: value.numpy() for name, value in zip(outputs, results, strict=True)}

    return run


def _widened(tensor: Any) -> Any:
    return tensor.float() if tensor.is_floating_point() else tensor


def write_outputs(variant: Variant, runner: Runner, audio: Audio, path: Path) -> None:
    """Run every example of a variant and write its outputs, one array per "<example>/<output>"."""
    run = driven(variant, runner)
    cases = examples(variant, audio)
    write_tensors({f"{case.name}/{name}": array for case in cases for name, array in run(case.inputs).items()}, path)


def driven(variant: Variant, runner: Runner) -> Runner:
    """Return what runs a whole example: the runner, or the network's own way of calling it many times over."""
    network = plugins.network(variant.network)
    if not hasattr(network, "drive"):
        return runner
    return lambda inputs: network.drive(runner, inputs, variant.form)


def _driving(variant: Variant) -> list[Callable]:
    has_own_way = hasattr(plugins.network(variant.network), "drive")
    return functions(variant.network, variant.form, "drive") if has_own_way else []


def _recommended(variant: Variant) -> dict[str, str]:
    """Return where the artifact should run, as strings that it carries."""
    units = variant.compute_units
    return {"quern.compute_units": units.recommend, "quern.compute_units_source": units.source} if units else {}


def _provenance(variant: Variant, kind: str) -> str:
    checkpoint = variant.checkpoint
    if kind == "synthetic":
        return f"synthetic stand-in for {checkpoint.id}"
    return f"{checkpoint.repository}@{checkpoint.revision}" if checkpoint.repository else checkpoint.id
