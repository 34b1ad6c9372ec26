"""`der --dataset DIR`: the diarization error of an artifact, or of turns that are there already, against labels."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.types import QuernError
from verify.scoring.diarization import (
    Rules,
    Score,
    interval,
    labels_beside,
    read_rttm,
    read_uem,
    score,
    together,
    whole,
)

if TYPE_CHECKING:
    from pyannote.core import Annotation, Timeline

# How the field counts on these sets. AMI and most of the literature before 2020: NIST's collar of a quarter of a second
# on either side; the "full" setup of Landini et al. 2022 (VBx) counts everything.
PRESETS = {"full": Rules(0.0, False), "ami": Rules(0.5, False), "fair": Rules(0.5, True)}
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
DIARIZE = Path(__file__).resolve().parents[2] / "diarize.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="recordings, their labels (*.rttm) "
                        "and, where only parts are scored, *.uem, anywhere below this folder")  # fmt: skip
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", type=Path, metavar="ARTIFACT", help="a built artifact; diarize.py runs it")
    what.add_argument("--hypothesis", type=Path, metavar="RTTM", help="turns that are there already")
    parser.add_argument("--embedding", type=Path, metavar="ARTIFACT", help="tell speakers by voice with this artifact")
    parser.add_argument("--preset", choices=PRESETS, default="full", help="full (default): every second counts; ami: a "
                        "collar of 0.25 s on either side of a boundary; fair: that, and overlap left out")  # fmt: skip
    parser.add_argument("--collar", type=float, metavar="S", help="seconds left out on either side of a boundary")
    parser.add_argument("--skip-overlap", action="store_true", help="leave out where several speak")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the error of each recording and of all, and return 0."""
    preset = PRESETS[arguments.preset]
    collar_s = preset.collar_s if arguments.collar is None else 2 * arguments.collar
    rules = Rules(collar_s, preset.skip_overlap or arguments.skip_overlap)
    scores = _scores(arguments, rules)
    if arguments.json:
        print(json.dumps({"rules": asdict(rules), "recordings": {n: _record(s) for n, s in scores.items()},
                          "all": _record(together(scores.values()))}, indent=2))  # fmt: skip
    else:
        print(*_table(scores, rules), sep="\n")
    return 0


def _scores(arguments: argparse.Namespace, rules: Rules) -> dict[str, Score]:
    audio = {path.stem: path for path in _recordings(arguments.dataset)}
    labels = labels_beside(path for path in arguments.dataset.rglob("*.rttm"))
    named = sorted(set(audio) & set(labels))
    if not named:
        raise QuernError(
            f"{arguments.dataset}: no recording has labels; expected <name>{SUFFIXES[0]} and an RTTM file that names it"
        )
    turns = _hypothesis(arguments, [audio[name] for name in named])
    parts = {name: found for path in arguments.dataset.rglob("*.uem") for name, found in read_uem(path).items()}
    from pyannote.core import Annotation

    return {
        name: score(labels[name], turns.get(name, Annotation(uri=name)), parts.get(name, _all_of(audio[name])), rules)
        for name in named
    }


def _recordings(dataset: Path) -> Iterator[Path]:
    if not dataset.is_dir():
        raise QuernError(f"{dataset}: expected a folder of recordings and labels")
    yield from sorted(path for path in dataset.rglob("*") if path.suffix.lower() in SUFFIXES)


def _all_of(audio: Path) -> "Timeline":
    import soundfile

    return whole(float(soundfile.info(audio).duration))


def _hypothesis(arguments: argparse.Namespace, audio: list[Path]) -> Mapping[str, "Annotation"]:
    """Return who spoke when, by recording: as the file has it, or as diarize.py finds in a process of its own."""
    if arguments.hypothesis:
        return read_rttm(arguments.hypothesis)
    with tempfile.TemporaryDirectory(prefix="quern-") as folder:
        rttm = Path(folder) / "turns.rttm"
        command = [sys.executable, DIARIZE, *audio, "--model", arguments.model, "--rttm", rttm]
        command += ["--embedding", arguments.embedding] if arguments.embedding else []
        done = subprocess.run([str(part) for part in command], check=False)
        if done.returncode:
            raise QuernError(f"{arguments.model}: diarize.py ended with {done.returncode}; its reason is above")
        return read_rttm(rttm)


def _table(scores: Mapping[str, Score], rules: Rules) -> Iterator[str]:
    """Yield a line for each recording, in points of its speech, and one for all."""
    overlap = "left out" if rules.skip_overlap else "counted"
    yield f"collar {rules.collar_s / 2:g} s on either side, overlap {overlap}; in per cent of the speech"
    width = max(len(name) for name in [*scores, "recording"])
    yield f"{'recording':{width}}    DER   miss  false   conf    JER  speakers  boundary"
    for name, one in [*scores.items(), ("all", together(scores.values()))]:
        total = one.total_s or 1.0
        shares = [one.error, one.missed_s / total, one.false_alarm_s / total, one.confused_s / total, one.jaccard]
        cells = "".join(f"{100 * share:7.1f}" for share in shares)
        yield f"{name:{width}}{cells}  {one.speakers:+8d}  {one.boundary_s:6.2f} s"
    if len(scores) > 1:
        low, high = interval([one.error for one in scores.values()])
        yield f"mean over recordings {100 * sum(o.error for o in scores.values()) / len(scores):.1f}, " \
              f"95 % between {100 * low:.1f} and {100 * high:.1f}"  # fmt: skip


def _record(one: Score) -> dict[str, float | None]:
    return {
        **asdict(one),
        "error": one.error,
        "boundary_s": None if one.boundary_s != one.boundary_s else one.boundary_s,
    }
