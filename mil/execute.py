"""Bound programs, run: a walk over the steps that yields every result as it is made."""

from collections import deque
from collections.abc import Generator, Iterator, Mapping
from typing import Any, TypeAlias

import torch

from mil.bound import BoundBlock, BoundFunction, Call, Cond, Result, Step, Values, While
from mil.errors import MilError
from mil.ops.arguments import State

# A step that has just run, its declared results, and their values. They are freed when the walk goes on.
Event: TypeAlias = tuple[Step, tuple[Result, ...], tuple[Any, ...]]


class Walk(Iterator[Event]):
    """A program being run, one event at a time; `outputs` holds its results once it has ended."""

    def __init__(self, events: Generator[Event, None, dict[str, Any]]) -> None:
        self._events = events
        self.outputs: dict[str, Any] = {}

    def __next__(self) -> Event:
        try:
            return next(self._events)
        except StopIteration as end:
            self.outputs = end.value or self.outputs
            raise

    def finish(self) -> dict[str, Any]:
        """Run to the end and return the outputs."""
        deque(self, maxlen=0)
        return self.outputs


def steps_of(
    function: BoundFunction, inputs: Mapping[str, torch.Tensor], states: Mapping[str, State]
) -> Generator[Event, None, dict[str, Any]]:
    """Run a function: yield its events, return its outputs by name.

    inputs   held tensors, for every name in `function.inputs`
    states   for every name in `function.states`; what the function writes is kept in them
    """
    values: Values = [None] * function.slot_count
    for name, (slot, _) in function.inputs.items():
        values[slot] = inputs[name]
    for name, (slot, _) in function.states.items():
        values[slot] = states[name]
    yield from _steps(function.block, values)
    return dict(zip(function.outputs, (take(values) for take in function.block.outputs), strict=True))


def _steps(block: BoundBlock, values: Values) -> Iterator[Event]:
    for step in block.steps:
        if isinstance(step, Call):
            yield step, step.results, step.compute(values)
        elif isinstance(step, Cond):
            yield from _cond(step, values)
        else:
            yield from _while(step, values)
        for slot in step.frees:
            values[slot] = None


def _cond(step: Cond, values: Values) -> Iterator[Event]:
    chosen = step.branches[0 if _truth(step, step.predicate(values)) else 1]
    yield from _steps(chosen, values)
    yield step, step.results, _finish(step, [take(values) for take in chosen.outputs], values)


def _while(step: While, values: Values) -> Iterator[Event]:
    variables = [take(values) for take in step.initial]
    while True:
        _enter(step.condition, variables, values)
        yield from _steps(step.condition, values)
        if not _truth(step, step.condition.outputs[0](values)):
            break
        _enter(step.body, variables, values)
        yield from _steps(step.body, values)
        variables = [take(values) for take in step.body.outputs]
    yield step, step.results, _finish(step, variables, values)


def _enter(block: BoundBlock, variables: list[Any], values: Values) -> None:
    for slot, value in zip(block.inputs, variables, strict=True):
        values[slot] = value


def _truth(step: Cond | While, value: Any) -> bool:
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        found = list(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise MilError(f"op `{step.operation}` ({step.layer}): expected one bool to decide by, found {found}")
    return bool(value.item())


def _finish(step: Cond | While, found: list[Any], values: Values) -> tuple[Any, ...]:
    finished = []
    for result, value in zip(step.results, found, strict=True):
        try:
            finished.append(result.finish(value))
        except MilError as error:
            raise MilError(f"op `{step.operation}` ({step.layer}): result `{result.name}`: {error}") from None
        values[result.slot] = finished[-1]
    return tuple(finished)
