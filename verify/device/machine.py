"""Whether this machine can say how a compiled model runs on a device."""

import platform
from pathlib import Path


def cannot_say(bundle: Path | None) -> str:
    """Return why this machine cannot say how a bundle runs; empty where it can.

    Virtual Macs, as most hosted ones are, have no Neural Engine: what loads there for it runs on the CPU.
    """
    if bundle is None or bundle.suffix != ".mlmodelc":
        return "not a Core ML program"
    if platform.system() != "Darwin":
        return "needs macOS"
    from coremltools.models.compute_device import MLComputeDevice, MLNeuralEngineComputeDevice

    found = MLComputeDevice.get_all_compute_devices()
    has_one = any(isinstance(device, MLNeuralEngineComputeDevice) for device in found)
    return "" if has_one else "needs a Mac with a Neural Engine"
