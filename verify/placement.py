"""Does the artifact load on every compute unit of this machine, where would its operations run, how fast, in how much?

Only a Mac with a Neural Engine can say. ALL falls back silently when the Neural Engine refuses a program, so each
compute unit is asked for on its own, and the plan is read operation by operation. What rules predict without a Mac is
the lint's to say.
"""

from pathlib import Path

from mil.compute_units import COMPUTE_UNITS
from pipeline.types import Arrays, Measurement, Subject
from verify.device import figures
from verify.device.calls import inputs_of, load_and_call, loads, timed
from verify.device.machine import cannot_say
from verify.device.memory import grown_mb
from verify.device.plan import devices, plan_of, planned

MEASURES = {
    "loads": "compute units",
    "neural_engine": "share of operations",
    "milliseconds": "ms",
    "milliseconds_per_10s": "ms",
    "real_time_factor": "seconds per second",
    "peak_memory": "MB",
}
NEEDS = ("bundle",)


def measure(subject: Subject) -> list[Measurement]:
    """Return what a Mac says of the bundle; without a value, with the reason, where there is none.

    loads           on how many of the four choices of compute units it loads and answers a call
    neural_engine   share of operations that are planned for the Neural Engine, where GPUs are left out
    milliseconds, milliseconds_per_10s, real_time_factor
                    times of calls on the compute units that the artifact recommends, else on all
    peak_memory     by how much loading it there and calling it once raises the peak of a process
    """
    if reason := cannot_say(subject.bundle):
        return [Measurement(name, None, unit, reason) for name, unit in MEASURES.items()]
    assert subject.bundle
    texts, inputs = figures.texts_of(subject.bundle), inputs_of(subject.inputs)
    units = texts.get("quern.compute_units", "all")
    by_units, refusals = timed(subject.bundle, inputs)
    return [
        loads(by_units, refusals),
        planned(devices(plan_of(subject.bundle, COMPUTE_UNITS["cpuAndNeuralEngine"]))),
        *figures.figures(by_units, units, figures.audio_s(texts, subject.inputs)),
        _peak_memory(subject.bundle, units, inputs),
    ]


def _peak_memory(bundle: Path, units: str, inputs: Arrays) -> Measurement:
    try:
        found = grown_mb("coremltools", load_and_call, bundle, COMPUTE_UNITS[units], inputs)
    except (RuntimeError, ValueError) as error:  # a process that ended is a RuntimeError too
        return Measurement("peak_memory", None, "MB", f"does not run on {units}: {error}")
    return Measurement("peak_memory", found, "MB", f"on {units}, what the process holds itself")
