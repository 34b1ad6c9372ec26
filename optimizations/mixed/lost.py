"""What a fine-tuned program loses against its teacher, as gradients are taken of it.

Whatever is far off counts less the further it is off, as τ log(1 + d / τ) (Cauchy's loss): a stretch that has fallen
over has a gradient a thousand times that of all the others, and says little of how to right it.
"""

import math

import torch

from optimizations.mixed.layers import Features
from optimizations.mixed.outputs import LEAST_PROBABILITY
from pipeline.types import Tensor

# How much features count beside the outputs, and their squared error over their mean square that is far off.
_FEATURES_SHARE, _FAR_FEATURES = 0.5, 0.1
# By how many nat a decision is to stay decided as it was.
_MARGIN = 0.05
_TINY = 1e-12


def by_output(tensor: Tensor, teacher: torch.Tensor, found: torch.Tensor, far: float) -> torch.Tensor:
    """Return what an output loses: the divergence as `outputs.Loss` has it, and what is lacking to decisions.

    Of embeddings, squared distances over squared lengths: 1 − cosine alone would let their lengths drift away.

    far   the divergence of a decision that is far off; may be infinite
    """
    if tensor.unit == "log probability":
        divergence = (teacher.exp() * (teacher - found)).sum(-1)
        return _robust(divergence, far).mean() + lacking(_ahead_of_classes(teacher, found)).mean()
    if tensor.unit == "probability" and "class" not in tensor.axes:
        least = LEAST_PROBABILITY
        a, b = teacher.clamp(least, 1 - least), found.clamp(least, 1 - least)
        divergence = a * torch.log(a / b) + (1 - a) * torch.log((1 - a) / (1 - b))
        return _robust(divergence, far).mean() + lacking(torch.where(a > 0.5, 1, -1) * torch.logit(b)).mean()
    if tensor.unit == "embedding":
        lengths = (teacher**2).sum(-1).clamp(min=_TINY)
        return (((found - teacher) ** 2).sum(-1) / lengths).mean()
    return _relative(teacher, found).mean()


def by_features(features: Features, teacher: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Return what features lose: the relative squared error, at one place, of all channels or of the last axis."""
    error = _relative(teacher, found).mean(1 if features.side == "windows" else -1)
    return _FEATURES_SHARE * _robust(error, _FAR_FEATURES).mean()


def lacking(ahead: torch.Tensor) -> torch.Tensor:
    """Return what decisions lack, in nat, that are ahead of the next best by less than a margin.

    The divergence hardly tells apart which way an undecided frame is decided. One that is lost by more than two margins
    counts as lost by two: that is not won back by a little.
    """
    return (_MARGIN - ahead).clamp(0, 3 * _MARGIN)


def _ahead_of_classes(teacher: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Return how far the class that is most probable for the teacher is ahead of all others."""
    chosen = teacher.argmax(-1, keepdim=True)
    return found.gather(-1, chosen)[..., 0] - found.scatter(-1, chosen, -math.inf).amax(-1)


def _robust(lost: torch.Tensor, far: float) -> torch.Tensor:
    return lost if far == math.inf else far * torch.log1p(lost.clamp(min=0) / far)


def _relative(teacher: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Return squared differences over the mean square."""
    return (found - teacher) ** 2 / (teacher**2).mean().clamp(min=_TINY)
