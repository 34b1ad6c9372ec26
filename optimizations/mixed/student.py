"""The program that is fine-tuned: latent values, entries and biases, and what they lose."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from mil.packing import pack
from mil.types import BY_NAME
from optimizations.mixed import lost
from optimizations.mixed.differentiable import Tensors, differentiable
from optimizations.mixed.held import Held, Subject, changed, own_biases
from optimizations.mixed.outputs import package_with
from optimizations.mixed.straight_through import Looked, Rounded, nearest
from optimizations.mixed.teacher import Call, features_of
from optimizations.palettes.palette import Weight, values_of
from pipeline.types import Tensor

# Steps of latent values and of entries, as shares of the median distance between entries; of biases, of their rms.
_LATENT_STEP, _ENTRY_STEP, _BIAS_STEP = 4e-3, 6e-4, 3e-4
# How far from the edge of what its entry stands for a latent value begins, as a share of that distance.
_MARGIN = 0.1
_BETAS, _TINY = (0.95, 0.99), 1e-12


class Student:
    """Weights that are learned by gradients, through the program that they belong to.

    A weight is a latent value for each of its elements, and the entries; each element is the entry nearest to its
    latent value. Latent values begin at the original weight, moved inside what the entry at the start stands for.
    """

    def __init__(self, subject: Subject, start: Held, outputs: Sequence[Tensor]) -> None:
        package = package_with(subject.package, changed(subject, start))
        biases = own_biases(subject, start.weights) | dict(start.biases)
        names = [label.partition("/")[2] for label in start.weights]
        self._program = differentiable(package, subject.function, {*names, *biases})
        self._subject, self._start, self._outputs = subject, start, outputs
        self._features = list({each.value: each for each in features_of(subject)}.values())
        self._listened = {each.value for each in self._features}
        self._weights: dict[str, tuple[torch.Tensor, torch.Tensor, torch.dtype]] = {}
        self._biases: dict[str, tuple[torch.Tensor, torch.dtype]] = {}
        self._steps: list[float] = []
        for name, label in zip(names, start.weights, strict=True):
            if name in self._program.lifted:
                self._learn_weight(name, subject.originals[label], start.weights[label])
        for name, bias in biases.items():
            if name in self._program.lifted:
                whole = torch.tensor(bias)
                self._biases[name] = whole.float(), whole.dtype
                self._steps.append(_BIAS_STEP * (float(np.sqrt(np.mean(bias.astype(np.float64) ** 2))) or 1.0))
        self._learned = [each for latent, entries, _ in self._weights.values() for each in (latent, entries)]
        self._learned += [bias for bias, _ in self._biases.values()]
        for each in self._learned:
            each.requires_grad_()
        self._optimizer = torch.optim.Adam([{"params": [each]} for each in self._learned], betas=_BETAS, eps=_TINY)
        self._values = self._detached()

    def _learn_weight(self, name: str, original: np.ndarray, weight: Weight) -> None:
        stored = torch.tensor(weight.entries[0])
        entries = stored.float()
        gap = max(float(torch.diff(entries).median()), _TINY)
        latent = _inside(torch.tensor(original).float(), torch.tensor(values_of(weight, original.shape)), entries, gap)
        self._weights[name] = latent, entries, stored.dtype
        self._steps += [_LATENT_STEP * gap, _ENTRY_STEP * gap]

    def state(self) -> dict[str, torch.Tensor]:
        """Return all that steps change, by name."""
        state = {f"learned.{place}": each.detach() for place, each in enumerate(self._learned)}
        for place, moments in self._optimizer.state_dict()["state"].items():
            state |= {f"{name}.{place}": tensor for name, tensor in moments.items()}
        return state

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go back to a state."""
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for label, tensor in state.items():
            name, _, place = label.partition(".")
            if name == "learned":
                self._learned[int(place)].data.copy_(tensor)
            else:
                moments.setdefault(int(place), {})[name] = tensor
        self._optimizer.load_state_dict(self._optimizer.state_dict() | {"state": moments})
        self._values = self._detached()

    def divergence(self, call: Call) -> float:
        """Return what the outputs of a call lose against the teacher's."""
        with torch.no_grad():
            return float(self._divergence(call.answers, self._program.run(call.inputs, self._values, ()), math.inf))

    def gradients(self, call: Call, far: float) -> list[torch.Tensor]:
        """Return the gradient of the loss of a call by each value that the program is run with.

        far   the divergence of a decision from which on more of it counts ever less
        """
        answers = self._program.run(call.inputs, self._values, self._listened)
        loss = self._divergence(call.answers, answers, far)
        for features in self._features:
            name = features.value
            if name in answers and answers[name].requires_grad:
                loss = loss + lost.by_features(features, call.answers[name], answers[name])
        values = list(self._values.values())
        found = torch.autograd.grad(loss, values, allow_unused=True)
        return [
            torch.zeros_like(v) if gradient is None else gradient for gradient, v in zip(found, values, strict=True)
        ]

    def move(self, gradients: Sequence[torch.Tensor], rate: float) -> None:
        """Take a step along the gradients by values, `rate` times as large as usual."""
        if not all(bool(gradient.isfinite().all()) for gradient in gradients):
            raise RuntimeError("a gradient is not finite")
        self._optimizer.zero_grad()
        torch.autograd.backward(list(self._rounded().values()), list(gradients))
        for group, step in zip(self._optimizer.param_groups, self._steps, strict=True):
            group["lr"] = rate * step
        self._optimizer.step()
        with torch.no_grad():
            for _, entries, _ in self._weights.values():
                entries.copy_(entries.sort().values)
        self._values = self._detached()

    def held(self) -> Held:
        """Return the palettes and the biases as they are now."""
        weights = dict(self._start.weights)
        for name, (latent, entries, dtype) in self._weights.items():
            label = f"{self._subject.function}/{name}"
            weights[label] = _weight(latent.detach(), entries.detach().to(dtype), self._subject.originals[label])
        biases = {name: bias.detach().to(dtype).numpy() for name, (bias, dtype) in self._biases.items()}
        return Held(weights, {**self._start.biases, **biases})

    def _detached(self) -> dict[str, torch.Tensor]:
        """Return what the program is run with, from where gradients are taken."""
        return {name: value.detach().requires_grad_() for name, value in self._rounded().items()}

    def _rounded(self) -> dict[str, torch.Tensor]:
        """Return what will be stored, so that gradients reach what it is learned by."""
        weights = {name: Looked.apply(*parts) for name, parts in self._weights.items()}
        return weights | {name: Rounded.apply(*parts) for name, parts in self._biases.items()}

    def _divergence(self, teacher: Tensors, found: Tensors, far: float) -> torch.Tensor:
        compared = [each for each in self._outputs if each.dtype.startswith("float") and each.name in found]
        return torch.stack([lost.by_output(each, teacher[each.name], found[each.name], far) for each in compared]).sum()


def _inside(original: torch.Tensor, chosen: torch.Tensor, entries: torch.Tensor, gap: float) -> torch.Tensor:
    """Return the numbers nearest to the originals for which the chosen entries stand, by a margin."""
    middles, end = (entries[1:] + entries[:-1]) / 2, torch.tensor([math.inf])
    places = nearest(chosen.float(), entries)
    low, high = torch.cat([-end, middles])[places], torch.cat([middles, end])[places]
    margin = ((high - low) / 4).clamp(max=_MARGIN * gap)
    return torch.maximum(torch.minimum(original, high - margin), low + margin)


def _weight(latent: torch.Tensor, entries: torch.Tensor, original: np.ndarray) -> Weight:
    indices = nearest(latent, entries.float()).numpy().astype(np.uint8)
    error = original.astype(np.float64) - entries.double().numpy()[indices]
    nbits = len(entries).bit_length() - 1
    return Weight(pack(indices, BY_NAME[f"uint{nbits}"]), entries.numpy()[None], None, float((error * error).sum()))
