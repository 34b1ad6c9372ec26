"""What is asked of a window once its embeddings are there: whom they are near to, who counts, and which turns last."""

import torch
import torch.nn.functional as F
from torch import nn

from converters.networks.processors.cosine import cosine_distances
from converters.networks.processors.layout import ACTIVE_FRAMES, RUN_FRAMES


class PostEmbedding(nn.Module):
    """Distances to a database, activity, validity, and masks without short runs; see `forward`."""

    def forward(
        self, embeddings: torch.Tensor, database: torch.Tensor, masks: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return distances (speaker, row), activity (speaker,), valid (speaker,), filtered masks (1, frame, speaker).

        embeddings (speaker, 256), database (row, 256), masks (1, frame, speaker), 0 or 1
        """
        activity = masks.sum(dim=1).squeeze(0)
        is_active = (activity > ACTIVE_FRAMES).float()
        is_somebody = (embeddings.abs().amax(dim=-1) > 0).float()
        return cosine_distances(embeddings, database), activity, is_active * is_somebody, without_short_runs(masks)


def without_short_runs(masks: torch.Tensor) -> torch.Tensor:
    """Return masks (1, frame, speaker) without the runs of ones that are shorter than RUN_FRAMES.

    A morphological opening. The erosion, a minimum over every RUN_FRAMES consecutive frames of the window, is 1 for
    those stretches that are active throughout; the dilation, a maximum over the stretches that hold a frame, gives
    each of them its frames back. A frame so keeps its 1 if and only if some stretch of RUN_FRAMES active frames holds
    it: if its run is that long. No stretch reaches over the window's edges, so a run there counts as long as it is seen
    to be. The maximum sees zeros beyond the edges, where a mask is never below.
    """
    reach = RUN_FRAMES - 1
    active = masks.transpose(1, 2)  # (1, speaker, frame)
    stretches = -F.max_pool1d(-active, RUN_FRAMES, stride=1)  # (1, speaker, frame − reach)
    return F.max_pool1d(F.pad(stretches, (reach, reach)), RUN_FRAMES, stride=1).transpose(1, 2)
