"""Which frames the speaker cache keeps when there are more than it holds.

Every frame has a score for every speaker, high where he surely speaks and alone. The best frames of each speaker are
boosted, so that nobody is forgotten, and the best of all are kept, a few frames of silence behind each speaker's.
Sources: Medennikov et al. 2025, "Streaming Sortformer", section 2.3; NeMo 3.0, `SortformerModules._compress_spkcache`.
"""

import math

import numpy as np

from diarization.streaming.state import StreamingParameters

SILENCE = -1  # stands for a frame that is no frame of the input, but the mean of all silent ones


def selected(preds: np.ndarray, parameters: StreamingParameters) -> np.ndarray:
    """Return which frames stay in the cache.

    preds     (frame, speaker) probabilities, of more frames than the cache holds; the latest are those from
              `spkcache_len` on
    returns   (spkcache_len,) the number of a frame, or SILENCE: speaker after speaker, in the order of time, each
              followed by silence; where there are too few frames that are speech, silence at the end. A frame that is
              kept for two speakers comes twice
    """
    return _best(_boosted(_scores(preds, parameters), parameters), parameters)


def _places(parameters: StreamingParameters) -> int:
    """Return how many frames of speech each speaker has a right to."""
    return parameters.spkcache_len // parameters.speakers - parameters.selection.silence_frames


def _scores(preds: np.ndarray, parameters: StreamingParameters) -> np.ndarray:
    """Return log p − log(1 − p) + Σ log(1 − p) + log 2, where p > 0.5; −inf for frames that are not to be kept.

    With p below the floor taken as the floor, a score is positive mostly where one speaker speaks and no other. Where a
    speaker has enough such frames, his others are not to be kept.
    """
    rule = parameters.selection
    active = np.log(np.maximum(preds, rule.score_floor))
    inactive = np.log(np.maximum(1.0 - preds, rule.score_floor))
    scores = active - inactive + inactive.sum(axis=1, keepdims=True) - math.log(0.5)
    scores = np.where(preds > 0.5, scores, -np.inf)
    alone = scores > 0
    enough = alone.sum(axis=0) >= math.floor(_places(parameters) * rule.positive_rate)
    return np.where(enough & ~alone, -np.inf, scores)


def _boosted(scores: np.ndarray, parameters: StreamingParameters) -> np.ndarray:
    """Return scores (frame, speaker) raised for frames that are new, then for the best frames of each speaker."""
    rule = parameters.selection
    scores = scores.copy()
    scores[parameters.spkcache_len :] += rule.latest_boost
    for rate, boost in ((rule.strong_rate, 2.0), (rule.weak_rate, 1.0)):
        for of_speaker in scores.T:
            of_speaker[rule.highest(of_speaker, math.floor(_places(parameters) * rate))] -= boost * math.log(0.5)
    return scores


def _best(scores: np.ndarray, parameters: StreamingParameters) -> np.ndarray:
    frames = len(scores)
    silence = np.full((parameters.selection.silence_frames, parameters.speakers), np.inf, scores.dtype)
    by_speaker = np.concatenate([scores, silence]).T.ravel()
    kept = parameters.selection.highest(by_speaker, parameters.spkcache_len)
    kept = np.sort(kept[by_speaker[kept] > -np.inf]) % (frames + len(silence))
    places = np.full(parameters.spkcache_len, SILENCE)
    places[: len(kept)] = np.where(kept < frames, kept, SILENCE)
    return places
