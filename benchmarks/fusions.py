"""Fused programs against their parts, chained and as a Core ML pipeline, in turns: time, operations and weights.

    python -m benchmarks.fusions                          all that variants.yaml fuses, Sortformer, WeSpeaker's ways
    python -m benchmarks.fusions --into docs/fusions.md   also puts the table there, between its marks
    python -m benchmarks.fusions sortformer --layers 2 2

Each form runs twice in every round, in one order and then in the other (`benchmarks/interleaved.py`). Here programs run
through the interpreter, as they declare; on a Mac also through Core ML, once for each choice of compute units. A time
that was taken while others used the machine says little: where they do at the start, `--into` leaves times out.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

import mil
from benchmarks.fusion_cases import Case, case_makers
from benchmarks.interleaved import Estimate, abba, median, quotient
from converters.networks.sortformer.layout import Sizes
from converters.toolchain import coremltools
from mil.info import FunctionInfo, describe
from pipeline import marks
from pipeline.code import ROOT
from pipeline.config import read_matrix
from pipeline.types import Arrays, Runner

TABLE = "table"  # its name on a page
LAYERS = (Sizes().conformer_layers, Sizes().transformer_layers)
COLUMNS = ("work", "form", "programs", "operations", "weights MB", "GMAC", "off by")
INTERPRETER = "interpreter"
COMPUTE_UNITS = ("CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL")
NEEDS_MACOS = "not run: needs macOS"
NEEDS_REST = "not run: needs a machine that nobody else uses"


@dataclass(frozen=True)
class Timing:
    """What a form takes, in seconds, and how many times what the first form takes."""

    seconds: Estimate
    of_first: Estimate


@dataclass(frozen=True)
class Row:
    """What is known of one form.

    programs                 how many run one after the other, be it inside a pipeline
    operations, weights_mb   of all of them; weights as they are stored
    gmacs                    10^9 multiply-accumulates of all of them
    off_by                   largest difference of any output from the first form's, through the interpreter
    timings                  by place; where it was not run, the reason
    """

    case: str
    form: str
    programs: int
    operations: int
    weights_mb: float
    gmacs: float
    off_by: float
    timings: Mapping[str, Timing | str]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.into and (args.cases or tuple(args.layers) != LAYERS):
        parser.error("--into shows all cases at their true size: give neither CASE nor --layers with it")
    busy = os.getloadavg()[0] > (os.cpu_count() or 1) / 2
    if args.into:
        marks.around(args.into, TABLE)
    conformer, transformer = args.layers
    makers = case_makers(read_matrix(ROOT / "variants.yaml").variants, (conformer, transformer))
    unknown = sorted(set(args.cases) - set(makers))
    if unknown:
        raise SystemExit(f"{unknown[0]}: no such case; there is {', '.join(makers)}")
    torch.set_num_threads(args.threads)
    rows: list[Row] = []
    for name in args.cases or makers:
        with tempfile.TemporaryDirectory(prefix="quern-") as folder:
            rows += measured(makers[name](Path(folder)), args.rounds)
        print(f"{name}: measured", file=sys.stderr)
    print(json.dumps([asdict(row) for row in rows]) if args.json else "\n".join(table(rows)))
    if busy:
        print("others use this machine: its times are void", file=sys.stderr)
    if args.into:
        lines = [conditions(args.threads, args.rounds), "", *table(_untimed(rows) if busy else rows)]
        marks.put(args.into, TABLE, "\n".join(lines))


def conditions(threads: int, rounds: int) -> str:
    """Return on what times were measured."""
    return f"{os.cpu_count()} cores, {platform.machine()}; the interpreter on {threads}, {rounds} rounds."


def _untimed(rows: Sequence[Row]) -> list[Row]:
    """Return rows without times; where nothing was run, the reason for that stays."""
    return [
        replace(row, timings={place: t if isinstance(t, str) else NEEDS_REST for place, t in row.timings.items()})
        for row in rows
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="a fused variant, sortformer or wespeaker; all")
    parser.add_argument("--rounds", type=_count, default=8, help="of two runs of each form (default: 8)")
    parser.add_argument("--threads", type=_count, default=1, help="of the interpreter (default: 1)")
    parser.add_argument("--layers", type=_count, nargs=2, default=LAYERS, metavar=("FASTCONFORMER", "TRANSFORMER"),
                        help=f"of Sortformer (default: {LAYERS[0]} {LAYERS[1]}, as published)")  # fmt: skip
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put the table there, between its marks")
    parser.add_argument("--json", action="store_true")
    return parser


def _count(written: str) -> int:
    if not written.isdecimal() or int(written) < 1:
        raise argparse.ArgumentTypeError(f"{written!r}; expected a whole number from 1 on")
    return int(written)


def measured(case: Case, rounds: int) -> list[Row]:
    """Return a row for each form of a case, the first form first."""
    programs = {form: [mil.load(path) for path in paths] for form, paths in case.forms.items()}
    runners = {form: chain([_interpreted(program) for program in each]) for form, each in programs.items()}
    found = {form: runner(case.inputs) for form, runner in runners.items()}
    timings = dict(_timings(case, runners, rounds))
    first = found[next(iter(case.forms))]
    return [
        Row(
            case=case.name,
            form=form,
            programs=sum(len(program.stages) for program in programs[form]),
            operations=sum(sum(function.operations.values()) for function in _functions(programs[form])),
            weights_mb=sum(function.stored_bytes for function in _functions(programs[form])) / 1e6,
            gmacs=sum(function.macs for function in _functions(programs[form])) / 1e9,
            off_by=max(float(np.abs(found[form][name] - first[name]).max()) for name in case.outputs),
            timings={place: each if isinstance(each, str) else each[form] for place, each in timings.items()},
        )
        for form in case.forms
    ]


def _functions(programs: Sequence[mil.Program]) -> Iterator[FunctionInfo]:
    for program in programs:
        yield from describe(program)


def _timings(case: Case, runners: Mapping[str, Runner], rounds: int) -> Iterator[tuple[str, dict[str, Timing] | str]]:
    """Yield for each place what every form takes there.

    The interpreter's time is that of the processor, which others on the machine change least; what Core ML does is
    done elsewhere, and takes time on the clock.
    """
    yield INTERPRETER, _compared(abba(_bound(runners, case.inputs), rounds, time.process_time))
    for units in COMPUTE_UNITS:
        if platform.system() != "Darwin":
            yield units, NEEDS_MACOS
            continue
        on_units = {form: chain([_core_ml(path, units) for path in paths]) for form, paths in case.forms.items()}
        yield units, _compared(abba(_bound(on_units, case.inputs), rounds))


def _compared(times: Mapping[str, Sequence[float]]) -> dict[str, Timing]:
    first = next(iter(times.values()))
    return {form: Timing(median(each), quotient(each, first)) for form, each in times.items()}


def _bound(runners: Mapping[str, Runner], inputs: Arrays) -> dict[str, Callable[[], object]]:
    return {form: partial(runner, inputs) for form, runner in runners.items()}


@dataclass(frozen=True)
class _Program:
    """A loaded program and the names of what it takes."""

    takes: tuple[str, ...]
    run: Runner


def chain(programs: Sequence[_Program]) -> Runner:
    """Return programs, run one after the other, as one function: each is given what it takes, by name."""

    def run(arrays: Arrays) -> Arrays:
        known = dict(arrays)
        for program in programs:
            known |= program.run({name: known[name] for name in program.takes})
        return known

    return run


def _interpreted(program: mil.Program) -> _Program:
    return _Program(tuple(feature.name for feature in program.inputs()), program.run)


def _core_ml(package: Path, units: str) -> _Program:
    ct = coremltools()
    model = ct.models.MLModel(str(package), compute_units=ct.ComputeUnit[units])
    return _Program(tuple(feature.name for feature in model.get_spec().description.input), model.predict)


def table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of a Markdown table, and below it where the forms were not run and why."""
    missing = {place: found for place, found in rows[0].timings.items() if isinstance(found, str)}
    places = [place for place in rows[0].timings if place not in missing]
    headings = [*COLUMNS, *(heading for place in places for heading in (f"{place} ms", "× first form"))]
    return [
        _line(headings),
        f"|---|---|{'--:|' * (len(headings) - 2)}",
        *(_line([*_facts(row), *(cell for place in places for cell in _cells(row.timings[place]))]) for row in rows),
        *(f"\n{', '.join(p for p in missing if missing[p] == why)}: {why}." for why in dict.fromkeys(missing.values())),
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _facts(row: Row) -> list[str]:
    off_by = f"{row.off_by:.2g}" if row.off_by else "0"
    return [
        row.case,
        row.form,
        str(row.programs),
        str(row.operations),
        f"{row.weights_mb:.2f}",
        f"{row.gmacs:.3g}",
        off_by,
    ]


def _cells(timing: Timing | str) -> list[str]:
    assert not isinstance(timing, str)  # the forms of all cases run in the same places
    ms = Estimate(*(1000 * seconds for seconds in timing.seconds))
    return [f"{ms.value:.1f} ({ms.low:.1f}–{ms.high:.1f})", "{:.3g} ({:.3g}–{:.3g})".format(*timing.of_first)]


if __name__ == "__main__":
    main()
