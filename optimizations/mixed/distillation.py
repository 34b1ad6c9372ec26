"""Palettes fine-tuned by gradients, so that a program with them says what the program without them says.

Compensation (`mixed/compensation.py`) makes each layer's products right by themselves. What is left of the error is
that of all layers together, and most of it can be taken back: entries, indices and biases are moved along the gradient
of what the outputs lose, from where compensation left them (knowledge distillation: Hinton, Vinyals and Dean 2015; of
quantized weights: Polino, Pascanu and Alistarh 2018, "Model compression via distillation and quantization").

The loss of a call is the divergence of its outputs from the source's, each by its unit, and a share of the relative
squared error of the features of each layer, which says where an error came from. Divergences d of single decisions
count as τ log(1 + d / τ): a stretch that has fallen over has a gradient a thousand times that of all the others.

A step is slow on purpose. Indices that are near the edge of two entries change at random when weights move by a
hundredth of the distance between entries, and what compensation had arranged is lost; a thousandth keeps it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from statistics import median

import numpy as np
import torch

from mil.errors import MilError
from optimizations.mixed.held import Held, Subject
from optimizations.mixed.outputs import Run
from optimizations.mixed.student import Student
from optimizations.mixed.teacher import Call, Teacher
from pipeline.types import Example, QuernError, Tensor

# Calls for one step, and the steps of warming up.
_CALLS, _WARM_UP = 12, 20
# τ over the median divergence of the first calls.
_ROBUSTNESS = 10.0


def distilled(
    subject: Subject,
    start: Held,
    steps: int,
    begin: Callable[[int], Iterator[Example]],
    run: Run,
    outputs: Sequence[Tensor],
) -> Held:
    """Return palettes and biases that lose less than those at the start, after so many steps.

    begin     begins the examples of the n-th pass over the recordings
    run       runs an example on a runner, by one call or more; each call is learned from by itself
    outputs   what the program puts out

    Raises QuernError where torch does not differentiate the program, and where there are no examples.
    """
    try:
        teacher, student = Teacher(subject, run), Student(subject, start, outputs)
        with _one_thread_each() as count, ThreadPoolExecutor(count) as threads:
            batches = _batches(_calls(teacher, begin, threads, count))
            first = next(batches)
            tau = _ROBUSTNESS * median(threads.map(student.divergence, first))
            for step, batch in enumerate(islice(chain([first], batches), steps)):
                student.move(_mean(threads.map(partial(student.gradients, tau=tau), batch)), _rate(step, steps))
    except (MilError, RuntimeError) as error:
        raise QuernError(f"distill: cannot learn by gradients through this program: {error}") from error
    return student.held()


def _rate(step: int, steps: int) -> float:
    """Return the share of the step size: rising at first, then falling to 0 as a cosine."""
    return min(1.0, (step + 1) / _WARM_UP) * (1 + math.cos(math.pi * step / steps)) / 2


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """Let each call be computed by one thread, as it is too small to be shared out; give how many torch had."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield count
    finally:
        torch.set_num_threads(count)


def _calls(
    teacher: Teacher, begin: Callable[[int], Iterator[Example]], threads: ThreadPoolExecutor, count: int
) -> Iterator[Call]:
    """Yield the calls of pass after pass over the recordings, without end.

    The examples of a pass come in random order; `count` at a time are answered, as many as there are threads.
    """
    number = 0
    while True:
        examples = list(begin(number))
        if not examples:
            raise QuernError("distill: the recordings hold no example; give longer ones")
        order = np.random.default_rng(number).permutation(len(examples))
        for places in np.array_split(order, math.ceil(len(order) / count)):
            for found in threads.map(teacher.calls, [examples[place] for place in places]):
                yield from found
        number += 1


def _batches(calls: Iterator[Call]) -> Iterator[list[Call]]:
    while True:
        yield [next(calls) for _ in range(_CALLS)]


def _mean(parts: Iterable[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
    """Return the means of gradients, summed in the order of their calls."""
    total: list[torch.Tensor] = []
    for part in parts:
        total = [a + b for a, b in zip(total, part, strict=True)] if total else list(part)
    return [each / _CALLS for each in total]
