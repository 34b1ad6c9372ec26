"""Rules that a program alone does not decide; listed so that nobody takes silence for an answer."""

from verify.linting.rule import Rule

RULES = (
    Rule(
        "Q4",
        "a per-channel scale skipped where groups do not divide leaves scaled weights behind",
        "N",
        "confirmed",
        "coremltools#2777: largest error 16.9",
        "compare the decoded weights with those before the pass",
        undecidable="needs the weights as they were before the pass",
    ),
    Rule(
        "R2",
        "compute unit ALL falls back without a word",
        "W",
        "confirmed",
        "speech-swift#313; FluidAudio#885; coreai-models#205",
        "load for CPU and Neural Engine, and read the plan",
        undecidable="needs a Mac with a Neural Engine",
    ),
    Rule(
        "R3",
        "the compiler of the Neural Engine hangs on devices with less than 8 GB",
        "W",
        "confirmed",
        "FluidAudio#726, #728",
        "offer those devices a smaller context, or a palettized model",
        undecidable="depends on the memory of the device",
    ),
    Rule(
        "R4",
        "systems with a broken BNNS: macOS 14, 26.4 to 26.6",
        "I",
        "confirmed",
        "FluidAudio#817, #818, #848, #878, #885",
        "name the systems in the model card",
        undecidable="depends on the system that loads it",
    ),
    Rule(
        "R6",
        "repeated predictions exhaust IOSurface",
        "W",
        "reported",
        "mobius nemotron 10; FluidAudio Benchmarks",
        "predict within an autorelease pool, into output backings",
        undecidable="depends on the app that calls it",
    ),
    Rule(
        "T1",
        "versions of numpy and scikit-learn that break coremltools",
        "E",
        "confirmed",
        "coremltools#2633; mobius nemotron 3",
        "pin them",
        undecidable="depends on the machine that converts",
    ),
    Rule(
        "T3",
        "compiling, predicting and planning are macOS's own",
        "I",
        "measured",
        "coremltools#2658",
        "use `python -m mil` elsewhere",
        undecidable="is about tools, not programs",
    ),
)
