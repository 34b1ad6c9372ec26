"""The same speaker anywhere in a recording, found by voice: agglomerative clustering of embeddings.

As pyannote.audio 3.1 does it: centroid linkage of embeddings of length one, cut at a distance; small clusters go to
the large one that they are nearest to; in each window no two speakers are the same one.
Source: Bredin 2023, "pyannote.audio 2.1 speaker diarization pipeline", section 2.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diarization.linking import NOBODY
from diarization.local import LocalSpeakers


@dataclass(frozen=True)
class Clustering:
    """How embeddings become speakers.

    threshold       distance of centroids, of embeddings of length one, up to which clusters are joined (0 to 2)
    least_cluster   embeddings that a cluster needs to be a speaker of its own; at most a tenth of all are asked for
    speakers        how many speakers there are, where that is known
    least_frames    frames that a speaker must speak in a window for the embedding to be counted in the clustering
    most            embeddings that are clustered; of more, those of the longest speech are
    """

    threshold: float = 0.7045654963945799
    least_cluster: int = 12
    speakers: int | None = None
    least_frames: int = 12
    most: int = 2000


def clustered(windows: Sequence[LocalSpeakers], embeddings: np.ndarray, options: Clustering) -> list[np.ndarray]:
    """Return for every window the number of each of its speakers (speaker,) int, NOBODY for those who are silent.

    embeddings   (window, speaker, dimension) of each speaker of each window; not finite where there is none
    """
    spoken = np.stack([window.active.sum(axis=0) for window in windows])  # (window, speaker), in frames
    usable = (spoken > 0) & np.isfinite(embeddings).all(axis=2) & (np.linalg.norm(embeddings, axis=2) > 0)
    chosen = _chosen(spoken, usable, options)
    if not chosen.any():
        return [np.where(each > 0, 0, NOBODY) for each in spoken]
    units = embeddings / np.where(usable, np.linalg.norm(embeddings, axis=2), 1)[..., np.newaxis]
    centroids = _centroids(units[chosen], options)
    return [_assigned(units[i], usable[i], spoken[i] > 0, centroids) for i in range(len(windows))]


def _chosen(spoken: np.ndarray, usable: np.ndarray, options: Clustering) -> np.ndarray:
    """Return which embeddings are clustered (window, speaker) bool."""
    counted = usable & (spoken >= options.least_frames)
    counted = counted if counted.any() else usable
    if counted.sum() <= options.most:
        return counted
    order = np.argsort(-np.where(counted, spoken, 0).reshape(-1), kind="stable")[: options.most]
    kept = np.zeros(counted.size, bool)
    kept[order] = True
    return kept.reshape(counted.shape)


def _centroids(units: np.ndarray, options: Clustering) -> np.ndarray:
    """Return the directions of the speakers (speaker, dimension)."""
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(units) == 1:
        return units
    if options.speakers is None:
        labels = fcluster(linkage(units, method="centroid"), options.threshold, criterion="distance")
    else:  # distances of centroids may shrink from one join to the next, so that no cut gives that many
        labels = fcluster(linkage(units, method="average"), options.speakers, criterion="maxclust")
    sizes = np.bincount(labels)
    least = 1 if options.speakers else min(options.least_cluster, max(1, round(0.1 * len(units))))
    large = np.flatnonzero(sizes >= least)
    large = large if len(large) else np.array([sizes.argmax()])
    return np.stack([units[labels == label].mean(axis=0) for label in large])


def _assigned(units: np.ndarray, usable: np.ndarray, speaks: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return the speaker of each local one, so that their cosines with the centroids are largest in sum."""
    from scipy.optimize import linear_sum_assignment

    directions = centroids / np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-12)
    cosines = np.where(usable[:, np.newaxis], units @ directions.T, -2.0)  # (local speaker, speaker)
    found = np.where(speaks, cosines.argmax(axis=1), NOBODY)
    those = np.flatnonzero(speaks)
    rows, columns = linear_sum_assignment(cosines[those], maximize=True)
    found[those[rows]] = columns
    return found
