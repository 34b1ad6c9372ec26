"""What WeSpeaker's tensors are called, what shapes they have, and how long its inputs and outputs are; no torch."""

from collections.abc import Iterator

from converters.networks.pyannet_layout import frame_count

RATE_HZ = 16_000
SAMPLES = 160_000  # a window of ten seconds, as apps cut them
MASK_FRAMES = frame_count(SAMPLES)  # masks come from the segmentation of the same window

FRAME_SAMPLES, HOP_SAMPLES = 400, 160
MEL_BANDS = 80
FBANK_FRAMES = (SAMPLES - FRAME_SAMPLES) // HOP_SAMPLES + 1

BLOCKS = (3, 4, 6, 3)  # residual blocks in each stage of ResNet34
WIDTHS = (32, 64, 128, 256)  # channels of each stage; every one but the first halves bands and frames
BANDS = MEL_BANDS // 8
FEATURES = WIDTHS[-1] * BANDS
FRAMES = -(-FBANK_FRAMES // 8)
DIMENSION = 256

EPSILON = 1e-5  # what batch normalisation adds to a variance
STATISTICS = ("weight", "bias", "running_mean", "running_var")


def convolutions() -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield for each convolution its name, that of the batch normalisation behind it, and the shape of its weight."""
    yield "resnet.conv1", "resnet.bn1", (WIDTHS[0], 1, 3, 3)
    before = WIDTHS[0]
    for stage, (blocks, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True), start=1):
        for block in range(blocks):
            name = f"resnet.layer{stage}.{block}"
            yield f"{name}.conv1", f"{name}.bn1", (width, before, 3, 3)
            yield f"{name}.conv2", f"{name}.bn2", (width, width, 3, 3)
            if before != width:
                yield f"{name}.shortcut.0", f"{name}.shortcut.1", (width, before, 1, 1)
            before = width


def parameter_shapes() -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every trained tensor, as pyannote.audio's WeSpeakerResNet34 has them."""
    shapes: dict[str, tuple[int, ...]] = {}
    for convolution, norm, shape in convolutions():
        shapes[f"{convolution}.weight"] = shape
        shapes |= {f"{norm}.{statistic}": shape[:1] for statistic in STATISTICS}
    return shapes | {"resnet.seg_1.weight": (DIMENSION, 2 * FEATURES), "resnet.seg_1.bias": (DIMENSION,)}


def counters() -> set[str]:
    """Return the names of the tensors that only count batches of the training."""
    return {f"{norm}.num_batches_tracked" for _, norm, _ in convolutions()}
