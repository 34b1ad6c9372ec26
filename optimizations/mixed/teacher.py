"""The program that palettes are fine-tuned towards, on its examples."""

from dataclasses import dataclass

import numpy as np
import torch

from optimizations.mixed.differentiable import Tensors, differentiable
from optimizations.mixed.held import Subject
from optimizations.mixed.layers import Features
from optimizations.mixed.outputs import Run
from pipeline.types import Arrays, Example

# Of an example that is run by more calls than that, so many are learned from.
_CALLS_PER_EXAMPLE = 12


@dataclass(frozen=True)
class Call:
    """What one call is entered with, and the outputs and features that the teacher has for it, by name."""

    inputs: Tensors
    answers: Tensors


class Teacher:
    """The source program, which answers calls with its outputs and with the features of all large weights."""

    def __init__(self, subject: Subject, run: Run) -> None:
        self._source = differentiable(subject.package, subject.function, ())
        self._run = run
        self._listened = {features.value for features in features_of(subject)}

    def calls(self, example: Example) -> list[Call]:
        """Return the calls that an example is run by, or some of them, drawn at random but always the same."""
        kept: list[Call] = []
        count = 0
        generator = np.random.default_rng(0)

        def answering(inputs: Arrays) -> Arrays:
            nonlocal count
            entered = self._source.entered(inputs)
            answers = self._source.run(entered, {}, self._listened)
            count += 1
            if len(kept) < _CALLS_PER_EXAMPLE:
                kept.append(Call(entered, answers))
            elif (place := int(generator.integers(count))) < _CALLS_PER_EXAMPLE:  # each call is as likely to be kept
                kept[place] = Call(entered, answers)
            return self._source.released(answers)

        with torch.no_grad():
            self._run(answering, example.inputs)
        return kept


def features_of(subject: Subject) -> list[Features]:
    """Return what the large weights multiply, where it is known."""
    return [layer.features for layer in subject.layers.values() if layer.features]
