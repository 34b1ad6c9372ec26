"""`release OLD NEW --audio DIR`: what a new release does worse than the old one."""

import argparse
import json
import math
from collections import Counter
from pathlib import Path

from pipeline.types import QuernError
from verify.commands.der import SUFFIXES
from verify.releases.compare import compare
from verify.releases.findings import COUNTING
from verify.releases.rows import Limits
from verify.releases.text import document, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    limits = Limits()
    for name, what in (("old", "the release that is out"), ("new", "the one that is to follow it")):
        parser.add_argument(
            name, type=Path, metavar=name.upper(), help=f"{what}: a .mlpackage, a .mlmodelc, or a folder of them"
        )
    parser.add_argument("--audio", type=Path, required=True, metavar="DIR", help="recordings to run both on; labels "
                        "(*.rttm) beside them are used")  # fmt: skip
    parser.add_argument("--hop", type=float, default=2.5, metavar="S", help="seconds between windows (%(default)s)")
    parser.add_argument("--argmax", type=_share, default=limits.argmax, metavar="SHARE", help="least share of frames "
                        "whose likeliest class is the same (%(default)s)")  # fmt: skip
    parser.add_argument("--worst-window", type=_share, default=limits.worst_window, metavar="SHARE",
                        help="the same in the window where it is lowest (%(default)s)")  # fmt: skip
    parser.add_argument("--agreement", type=_share, default=limits.agreement, metavar="SHARE", help="least share of "
                        "decisions and flags that are the same (%(default)s)")  # fmt: skip
    parser.add_argument("--cosine", type=_share, default=limits.cosine, metavar="COS", help="least cosine of two "
                        "embeddings (%(default)s)")  # fmt: skip
    parser.add_argument("--relative", type=_least_zero, default=limits.relative, metavar="SHARE", help="largest rms "
                        "difference of an output, as a share of its rms value (%(default)s)")  # fmt: skip
    parser.add_argument("--der", type=_least_zero, default=limits.der, metavar="POINTS", help="most diarization error "
                        "that may be added (%(default)s)")  # fmt: skip
    parser.add_argument("--size-factor", type=_least_zero, default=limits.size_factor, metavar="FACTOR", help="by how "
                        "much weights may grow (%(default)s)")  # fmt: skip
    parser.add_argument("--memory-factor", type=_least_zero, default=limits.memory_factor, metavar="FACTOR",
                        help="by how much live activations may grow (%(default)s)")  # fmt: skip
    parser.add_argument("--lint", choices=COUNTING, default=limits.lint, help="the least level whose new findings "
                        "count (%(default)s)")  # fmt: skip
    parser.add_argument("--allow-not-run", action="store_true", help="let models pass that cannot be run here")
    parser.add_argument("--json", action="store_true", help="as JSON")


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0 to 1")
    return value


def _least_zero(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0 on")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Print every comparison and return 1 where something is worse, or could not be compared and may not be."""
    if not (math.isfinite(arguments.hop) and arguments.hop > 0):
        raise QuernError(f"--hop {arguments.hop:g}: expected more than 0 seconds")
    limits = Limits(
        argmax=arguments.argmax,
        worst_window=arguments.worst_window,
        agreement=arguments.agreement,
        cosine=arguments.cosine,
        relative=arguments.relative,
        der=arguments.der,
        size_factor=arguments.size_factor,
        memory_factor=arguments.memory_factor,
        lint=arguments.lint,
    )
    rows = list(compare(arguments.old, arguments.new, _recordings(arguments.audio), arguments.hop, limits))
    uncompared = any(row.check in ("runs", "readable") and row.outcome == "not run" for row in rows)
    worse = any(row.outcome == "fail" for row in rows)
    status = int(worse or (uncompared and not arguments.allow_not_run))
    if arguments.json:
        print(json.dumps(document(rows, status), indent=2))
    else:
        print(*table(rows), sep="\n")
        if uncompared and not worse and not arguments.allow_not_run:
            print("what cannot be run is not known to be no worse; --allow-not-run lets it pass")
    return status


def _recordings(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not found:
        raise QuernError(f"{folder}: expected a folder of recordings ({', '.join(SUFFIXES)}), found none")
    [(stem, count)] = Counter(path.stem for path in found).most_common(1)
    if count > 1:
        raise QuernError(f"{folder}: {count} recordings are called {stem}; labels could be of either, so rename one")
    return found
