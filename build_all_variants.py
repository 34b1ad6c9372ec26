"""Build, run and verify every model that variants.yaml declares, on Linux or macOS.

    weights -> convert -> optimize -> label -> compile -> verify -> assemble

What was built before from the same inputs by the same code is not built again. Artifacts appear whole, in
OUT/<checkpoint>/<variant>/, with manifest.json (what it is), checks.json (how good it is), run.json (this run).
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline import commands, recordings, select
from pipeline.code import ROOT
from pipeline.config import Matrix, read_matrix
from pipeline.explain import explain
from pipeline.line import STAGES, Settings
from pipeline.publish import arguments, command
from pipeline.steps import Audio
from pipeline.types import EnvironmentTroubleError, QuernError

EPILOG = """\
environment:
  OUT_DIR           folder of the artifacts, when --out is not given (default: artifacts)
  PALETTIZE_NBITS   build only the variants with palettes of this width (1, 2, 3, 4, 6 or 8 bits); 0: only those
                    without palettes; unset: every declared variant (the scripts this replaces built fp16 then)
  QUERN_WEIGHTS     folder of weights, when --weights-dir is not given
  QUERN_RESULTS     where measurements from other machines are read (default: results/; see --results-out)
  QUERN_REFERENCES  where upstream's outputs are kept (default: references/, made by `make references`)

exit status:
  0  everything is built and within its limits
  1  a check failed, or one that is required for a build could not be run; publishing was refused
  2  wrong usage, configuration or input file     3  a bug in Quern
  4  disk, network, recordings or weights are not to be had     130  interrupted

examples:
  python build_all_variants.py --list
  python build_all_variants.py 'segmentation-3.0/*' --weights-dir ~/checkpoints
  PALETTIZE_NBITS=6 OUT_DIR=somewhere python build_all_variants.py --weights auto
"""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("patterns", nargs="*", metavar="GLOB", help="variants to build, such as 'segmentation-3.0/*'; "
                   "all but those on request without one")  # fmt: skip
    p.add_argument("--matrix", type=Path, default=ROOT / "variants.yaml", metavar="FILE", help="another variants.yaml")
    p.add_argument("--out", type=Path, metavar="DIR", help="folder of the artifacts; wins over OUT_DIR")
    p.add_argument("--weights", choices=("real", "auto", "synthetic"), default="real", help="real (default) stops if "
                   "weights are not to be had; auto takes stand-ins then; synthetic always does")  # fmt: skip
    p.add_argument("--weights-dir", type=Path, default=os.environ.get("QUERN_WEIGHTS") or None, metavar="DIR",
                   help="folder that holds <checkpoint id>/<files>")  # fmt: skip
    p.add_argument("--audio", type=Path, metavar="DIR", help="recordings to measure on")
    p.add_argument("--compiler", choices=("auto", "builtin", "apple"), default="auto", help="who compiles .mlmodelc; "
                   "auto takes Apple's where it is installed")  # fmt: skip
    p.add_argument("--until", choices=STAGES, default=STAGES[-1], metavar="STEP",
                   help=f"stop after {', '.join(STAGES)}")  # fmt: skip
    p.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), metavar="N", help="variants at a time")
    p.add_argument("--keep-going", action="store_true", help="go on with other variants when one cannot be built")
    p.add_argument("--thorough", action="store_true", help="measure on every example, not on the usual share")
    p.add_argument("--list", action="store_true", help="name the selected variants and build nothing")
    p.add_argument("--explain", action="store_true", help="say why a step would be rebuilt and build nothing")
    p.add_argument("--references", action="store_true", help="run upstream's own code and store its outputs")
    p.add_argument("--check-store", action="store_true", help="first hash everything stored, and drop what was altered")
    p.add_argument("--prune", action="store_true", help="afterwards drop what no declared variant needs")
    arguments.add_arguments(p)
    p.add_argument("--json", action="store_true", help="one JSON document on standard output, progress on the other")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    args = parser().parse_intermixed_args(arguments)
    try:
        return run(args)
    except QuernError as error:
        return complain(str(error), error.status, args.json)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return complain(f"{where}{error.strerror or error}", EnvironmentTroubleError.status, args.json)
    except KeyboardInterrupt:
        return complain("interrupted; what was finished is kept, and the next run goes on from there", 130, args.json)


def run(args: argparse.Namespace) -> int:
    """Do what the arguments ask for, and return the exit status."""
    matrix = read_matrix(args.matrix)
    selected = select.by_width(select.by_patterns(matrix.variants, args.patterns), os.environ.get("PALETTIZE_NBITS"))
    selected = select.by_shard(selected, args.shard)
    if args.list:
        print("\n".join(variant.id for variant in selected))
        return 0
    select.require_installed(selected, args.patterns)
    settings = settings_of(args, matrix)
    if args.check_store:
        commands.check_store(settings)
    if args.explain:
        print("\n".join(explain(selected, settings)))
        return 0
    if args.references:
        commands.make_references(selected, settings)
        return 0
    if args.publish or args.dry_run:
        return command.publish(
            matrix.variants, selected, settings, args.matrix, args.hub_owner, args.dry_run, args.json
        )
    status = commands.build(selected, settings, args.jobs, args.keep_going, args.json)
    if args.prune:
        commands.prune(matrix, settings)
    return status


def settings_of(args: argparse.Namespace, matrix: Matrix) -> Settings:
    """Return what the arguments and the environment say about this build; an argument wins."""
    root = args.matrix.resolve().parent
    audio = recordings.find(args.audio, matrix.recordings, root)
    return Settings(
        out=(args.out or Path(os.environ.get("OUT_DIR") or ROOT / "artifacts")).resolve(),
        weights=args.weights,
        weights_dir=args.weights_dir,
        audio=Audio(audio, args.thorough),
        calibration=Audio(recordings.find(None, matrix.recordings, root) or audio),
        compiler=args.compiler,
        until=args.until,
        results_out=args.results_out,
    )


def complain(sentence: str, status: int, as_json: bool) -> int:
    """Print what is wrong on standard error, and as the document if one is wanted; return the exit status."""
    print(sentence, file=sys.stderr)
    if as_json:
        print(json.dumps({"status": status, "error": sentence}))
    return status


if __name__ == "__main__":
    sys.excepthook = commands.report_bug
    sys.exit(main())
