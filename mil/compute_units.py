"""Where an app may let a model run: what Swift's `MLComputeUnits` calls each choice, and what coremltools does."""

COMPUTE_UNITS = {
    "all": "ALL",
    "cpuAndGPU": "CPU_AND_GPU",
    "cpuAndNeuralEngine": "CPU_AND_NE",
    "cpuOnly": "CPU_ONLY",
}
