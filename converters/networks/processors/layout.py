"""Numbers that processors and their definitions share; no torch."""

from diarization.powerset import powerset

CLASSES, SPEAKERS = powerset().shape  # of the segmentation network
ACTIVE_FRAMES = 10  # a speaker must be active in more frames than these to be valid
RUN_FRAMES = 59  # one second: 59 frames, 270 samples apart at 16 kHz, are 0.996 s
