"""Palettes fine-tuned by gradients, so that a program with them says what the program without them says.

Compensation (`mixed/compensation.py`) makes each layer's products right by themselves. What is left of the error is
that of all layers together, and most of it can be taken back: entries, indices and biases are moved along the gradient
of what the outputs lose, from where compensation left them (knowledge distillation: Hinton, Vinyals and Dean 2015; of
quantized weights: Polino, Pascanu and Alistarh 2018, "Model compression via distillation and quantization").

The loss of a call (`mixed/lost.py`) is the divergence of its outputs from the source's, what undecided frames lack to
be decided as they were, and the squared error of the features of each layer, which says where an error came from.

A step is slow on purpose. Indices that are near the edge of two entries change at random when weights move by
hundredths of the distance between entries, and what compensation had arranged is lost.

What a step hears and how far it goes follow from its number alone, so that a run that was killed goes on where it was.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from mil.errors import MilError
from optimizations.mixed import checkpoint
from optimizations.mixed.held import Held, Subject
from optimizations.mixed.student import Student
from optimizations.mixed.teacher import Call, Teacher
from pipeline.types import Calibration, Example, QuernError

# Calls for one step, of so many examples of each variation; and the steps of warming up.
_CALLS, _EXAMPLES, _WARM_UP = 12, 3, 20
# From which divergence on a decision is far off: in nat, and over the median divergence of the first calls.
_FAR, _FAR_OVER_MEDIAN = 0.03, 5.0
# Steps from one checkpoint to the next.
_KEPT_EVERY = 20


def distilled(subject: Subject, start: Held, steps: int, calibration: Calibration, folder: Path) -> Held:
    """Return palettes and biases that lose less than those at the start, after so many steps.

    calibration   its variations that stay near are learned from, or where there are none, its recordings; of an example
                  that is run by several calls, each call is learned from by itself
    folder        where checkpoints are kept; they stay there when the last step is done

    Raises QuernError where torch does not differentiate the program, and where there are no examples.
    """
    begin = calibration.near or (lambda number: calibration.calibrate())
    try:
        teacher, student = Teacher(subject, calibration.run), Student(subject, start, calibration.outputs)
        with _one_thread_each() as threads:
            usual = median(threads.map(student.divergence, _lesson(0, begin, teacher, threads)))
            gradients = partial(student.gradients, far=max(_FAR, _FAR_OVER_MEDIAN * usual))
            for step in range(_resumed(student, folder), steps):
                if step % _KEPT_EVERY == 0:
                    checkpoint.keep(folder, step, student.state())
                    calibration.tell(f"step {step} of {steps} of distillation")
                lesson = _lesson(step, begin, teacher, threads)
                student.move(_mean(threads.map(gradients, lesson)), _rate(step, steps))
    except (MilError, RuntimeError) as error:
        raise QuernError(f"distill: cannot learn by gradients through this program: {error}") from error
    return student.held()


def _resumed(student: Student, folder: Path) -> int:
    """Bring a student to where it was when the run before was killed; return how many steps it had done."""
    found = checkpoint.kept(folder)
    if found is None:
        return 0
    done, state = found
    student.restore(state)
    return done


def _rate(step: int, steps: int) -> float:
    """Return the share of the step size: rising at first, then falling to 0 as a cosine."""
    return min(1.0, (step + 1) / _WARM_UP) * (1 + math.cos(math.pi * step / steps)) / 2


@contextmanager
def _one_thread_each() -> Iterator[ThreadPoolExecutor]:
    """Give as many threads as torch has, each of which computes a call by itself: a call is too small to be shared."""
    number = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(number) as threads:
            yield threads
    finally:
        torch.set_num_threads(number)


def _lesson(
    step: int, begin: Callable[[int], Iterator[Example]], teacher: Teacher, threads: ThreadPoolExecutor
) -> list[Call]:
    """Return the calls of a step: of a few examples of each of some variations, none of which another step hears."""
    generator = np.random.default_rng(step)
    number, calls = step * _CALLS, list[Call]()
    while len(calls) < _CALLS:
        examples = list(begin(number))
        if not examples:
            raise QuernError("distill: the recordings hold no example; give longer ones")
        places = generator.permutation(len(examples))[:_EXAMPLES]
        for found in threads.map(teacher.calls, [examples[place] for place in places]):
            calls += found
        number += 1
    return [calls[place] for place in generator.permutation(len(calls))[:_CALLS]]


def _mean(parts: Iterable[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
    """Return the means of gradients, summed in the order of their calls."""
    total: list[torch.Tensor] = []
    for part in parts:
        total = [a + b for a, b in zip(total, part, strict=True)] if total else list(part)
    return [each / _CALLS for each in total]
