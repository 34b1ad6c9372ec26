"""The network that is made of others: stages run one after the other inside one program.

variants.yaml declares what is fused, and nothing else knows of it:

    form: {fuse: [segmentation, segmentation_postprocessor], outputs: [segments, masks]}

A stage is a network by name, or `name: {form: {…}, rename: {input: source}}`. Its inputs are outputs of stages before
it, or else inputs of the whole, found by name; `rename` says where an input of another name comes from.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from pipeline import plugins
from pipeline.options import Complaints, build
from pipeline.types import Arrays, Example, QuernError, Recording, Runner, Tensor

FILES: tuple[tuple[str, ...], ...] = ((),)


@dataclass(frozen=True)
class Stage:
    """One network of a chain.

    rename   input of the stage → the output of an earlier stage, or the input of the whole, that it is
    """

    network: str
    form: Any
    rename: Mapping[str, str]

    def source(self, name: str) -> str:
        return self.rename.get(name, name)


@dataclass(frozen=True)
class Form:
    """A chain of stages, and those of their outputs that are outputs of the whole: by default the last stage's."""

    fuse: tuple[Stage, ...]
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Written:
    fuse: tuple[str | dict, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Settings:
    form: dict = field(default_factory=dict)
    rename: dict = field(default_factory=dict)


def read_form(written: Mapping[str, Any], path: str, complaints: Complaints) -> Form | None:
    """Return the form that is written in variants.yaml, or None after complaining of what is wrong with it."""
    found = build(_Written, written, path, complaints)
    if found is None:
        return None
    stages = [_stage(each, f"{path}.fuse[{i}]", complaints) for i, each in enumerate(found.fuse)]
    if complaints:
        return None
    form = Form(tuple(stage for stage in stages if stage), found.outputs)
    for place, sentence in _mismatches(form):
        complaints.add(f"{path}.{place}", sentence)
    return form


def _stage(written: str | dict, path: str, complaints: Complaints) -> Stage | None:
    if isinstance(written, dict) and len(written) != 1:
        complaints.add(path, "expected one network with its settings, such as `- segmentation: {form: {batch: 1}}`")
        return None
    ((name, settings),) = {written: {}}.items() if isinstance(written, str) else written.items()
    if name not in plugins.names("network"):
        complaints.unknown(f"{path}.{name}", "network", plugins.names("network"))
        return None
    found = build(_Settings, settings or {}, f"{path}.{name}", complaints)
    form = found and build(plugins.network(name).Form, found.form, f"{path}.{name}.form", complaints)
    return form and Stage(name, form, dict(found.rename))


def _mismatches(form: Form) -> Iterator[tuple[str, str]]:
    """Yield the place and the sentence for every connection that does not fit."""
    known: dict[str, Tensor] = {}
    for i, stage in enumerate(form.fuse):
        network = plugins.network(stage.network)
        own = network.inputs(stage.form)
        for name in stage.rename:
            if name not in {tensor.name for tensor in own}:
                yield f"fuse[{i}].rename.{name}", f"{stage.network} has no such input"
        for tensor in own:
            source = known.setdefault(stage.source(tensor.name), tensor)
            if source.shape != tensor.shape:
                expected, found = (" × ".join(map(str, t.shape)) for t in (tensor, source))
                yield f"fuse[{i}]", f"{stage.network}.{tensor.name} expects {expected}, and {source.name} is {found}"
        known |= {tensor.name: tensor for tensor in network.outputs(stage.form)}
    made = [tensor.name for tensor in _made(form)]
    for name in form.outputs:
        if form.fuse and name not in made:
            yield f"outputs.{name}", f"no stage puts it out; there is {', '.join(made)}"


def _made(form: Form) -> tuple[Tensor, ...]:
    return tuple(tensor for stage in form.fuse for tensor in plugins.network(stage.network).outputs(stage.form))


def inputs(form: Form) -> tuple[Tensor, ...]:
    """Return the inputs of the stages that no earlier stage puts out, each once."""
    given: dict[str, Tensor] = {}
    made: set[str] = set()
    for stage in form.fuse:
        network = plugins.network(stage.network)
        for tensor in network.inputs(stage.form):
            source = stage.source(tensor.name)
            if source not in made and source not in given:
                given[source] = _named(tensor, source)
        made |= {tensor.name for tensor in network.outputs(stage.form)}
    return tuple(given.values())


def _named(tensor: Tensor, name: str) -> Tensor:
    return Tensor(name, tensor.axes, tensor.shape, tensor.dtype, tensor.unit)


def outputs(form: Form) -> tuple[Tensor, ...]:
    """Return what the whole puts out, in the order in which the form names it."""
    if not form.outputs:
        last = form.fuse[-1]
        return plugins.network(last.network).outputs(last.form)
    by_name = {tensor.name: tensor for tensor in _made(form)}
    return tuple(by_name[name] for name in form.outputs)


def read(files: Mapping[str, Path]) -> Arrays:
    """Return no tensors: the stages read theirs."""
    return {}


def synthetic(seed: int) -> Arrays:
    """Return no tensors: the stages make theirs."""
    return {}


def load(state: Arrays, form: Form) -> Any:
    """Return the chain as one torch module; the tensors of a stage are named "<network>/<name>"."""
    from pipeline.chain import Chain, Link

    links = []
    for stage in form.fuse:
        network = plugins.network(stage.network)
        links.append(
            Link(
                module=network.load(_state(state, stage), stage.form),
                inputs=tuple(stage.source(tensor.name) for tensor in network.inputs(stage.form)),
                outputs=tuple(tensor.name for tensor in network.outputs(stage.form)),
            )
        )
    return Chain(links, [t.name for t in inputs(form)], [t.name for t in outputs(form)]).eval()


def _state(state: Arrays, stage: Stage) -> Arrays:
    prefix = f"{stage.network}/"
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def reference(state: Arrays, form: Form) -> Runner:
    """Return the references of the stages, run one after the other."""
    runners = [plugins.network(stage.network).reference(_state(state, stage), stage.form) for stage in form.fuse]

    def run(arrays: Arrays) -> Arrays:
        known = dict(arrays)
        for stage, runner in zip(form.fuse, runners, strict=True):
            own = plugins.network(stage.network).inputs(stage.form)
            known |= runner({tensor.name: known[stage.source(tensor.name)] for tensor in own})
        return {tensor.name: known[tensor.name] for tensor in outputs(form)}

    return run


def examples(form: Form, recordings: Sequence[Recording], thorough: bool = False) -> Iterator[Example]:
    """Yield examples of the first stage, every fifth or all if `thorough`: all stages run on each.

    What later stages need besides comes from their own examples, in turn.
    """
    first, *later = form.fuse
    wanted = {tensor.name for tensor in inputs(form)}
    others = [cycle(list(_supplied(stage, wanted, recordings))) for stage in later]
    of_first = plugins.network(first.network).examples(first.form, recordings, thorough)
    for example in islice(of_first, None, None, 1 if thorough else 5):
        own = {first.source(name): array for name, array in example.inputs.items()}
        for other in others:
            own = next(other) | own
        yield Example(example.name, {name: own[name] for name in own if name in wanted})


def _supplied(stage: Stage, wanted: set[str], recordings: Sequence[Recording]) -> Iterator[Arrays]:
    """Yield, for each example of a stage, those of its inputs that are inputs of the whole; at least one mapping."""
    network = plugins.network(stage.network)
    if wanted.isdisjoint(stage.source(tensor.name) for tensor in network.inputs(stage.form)):
        yield {}
        return
    found = False
    for example in network.examples(stage.form, recordings):
        found = True
        named = {stage.source(name): array for name, array in example.inputs.items()}
        yield {name: array for name, array in named.items() if name in wanted}
    if not found:
        raise QuernError(f"{stage.network}: there are no examples of its inputs to run the fused network on")


def metadata(form: Form) -> dict[str, str]:
    """Return the strings of all stages; where two write the same key, the later stage wins."""
    found: dict[str, str] = {}
    for stage in form.fuse:
        found |= plugins.network(stage.network).metadata(stage.form)
    return found | {"stages": ", ".join(stage.network for stage in form.fuse)}
