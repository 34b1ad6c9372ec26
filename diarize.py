"""Who spoke when: any built artifact on any recording, written as RTTM.

A segmentation artifact is slid over the recording; its speakers are linked where windows overlap, or, with an embedding
artifact, by voice. Recordings may have any length, rate and number of channels.
"""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from diarization.audio_stream import blocks, duration_s
from diarization.clustering import Clustering
from diarization.offline import RATE_HZ, Embedder, Options, Progress, Segmenter, diarized
from diarization.timeline import timeline
from diarization.turns import Shaping, Track, Turn, rttm, speech_s, turns
from mil.errors import MilError
from pipeline import plugins
from pipeline.artifacts import Opened, open_artifact
from pipeline.types import QuernError

EPILOG = """\
exit status:
  0  done     2  wrong usage, recording or artifact     4  a file could not be written     130  interrupted
  A recording that cannot be read is named, and the others are done.

examples:
  python diarize.py talk.wav --model artifacts/segmentation-3.0/w6
  python diarize.py a.wav b.flac --model artifacts/segmentation-3.0/fp16 \\
      --embedding artifacts/embedding-community-1/mixed --rttm meetings.rttm --timeline pictures
"""

Diarizer = Callable[[Path, Progress], list[Turn]]

_CLEAR = "\r\x1b[K"  # back to the start of the line, and nothing on it


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("audio", nargs="+", type=Path, help="recordings: WAV, FLAC, Ogg, MP3 …")
    p.add_argument("--model", type=Path, required=True, metavar="ARTIFACT", help="folder of a built artifact, or "
                   "the artifact in it, or any .mlpackage or .mlmodelc: a segmentation, with or without embeddings, or "
                   "a Sortformer")  # fmt: skip
    p.add_argument("--embedding", type=Path, metavar="ARTIFACT", help="tell speakers by voice with this artifact")
    p.add_argument("--rttm", type=Path, metavar="FILE", help="where the turns go (default: standard output)")
    p.add_argument("--timeline", type=Path, metavar="DIR", help="draw DIR/<recording>.svg as well")
    p.add_argument("--json", action="store_true", help="print one JSON document instead of RTTM")
    p.add_argument("--hop", type=float, default=1.0, metavar="S", help="seconds between windows (default: 1)")
    p.add_argument("--min-duration", type=float, default=0.0, metavar="S", help="drop shorter turns (default: 0)")
    p.add_argument("--max-gap", type=float, default=0.0, metavar="S", help="close shorter gaps in a speaker's speech")
    p.add_argument("--speakers", type=int, metavar="N", help="how many speakers there are; needs embeddings")
    p.add_argument("--threshold", type=float, default=Clustering.threshold, metavar="D", help="distance of voices up "
                   "to which they are the same one (default: %(default).3f)")  # fmt: skip
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    asked = parser().parse_args(argv)
    try:
        _check_names(asked.audio)
        found = dict(_each(asked, _diarizer(asked)))
        _write(asked, found)
    except (QuernError, MilError) as error:
        print(f"diarize: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"diarize: {error}", file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        return 130
    return 0 if len(found) == len(asked.audio) else 2


def _check_names(recordings: Sequence[Path]) -> None:
    """Raise QuernError for two recordings that RTTM could not tell apart: it calls them by their names alone."""
    named: dict[str, Path] = {}
    for path in recordings:
        if path.stem in named:
            raise QuernError(f"{named[path.stem]} and {path}: both would be called {path.stem!r}; rename one of them")
        named[path.stem] = path


def _each(asked: argparse.Namespace, diarizer: Diarizer) -> Iterator[tuple[Path, list[Turn]]]:
    """Yield the turns of each recording, and tell of them as it is done; say of the others why they cannot be read."""
    for path in asked.audio:
        try:
            spoken = diarizer(path, _progress(path))
        except QuernError as error:
            _say(f"diarize: {error}")
            continue
        _say(*_summary(path, spoken))
        if asked.timeline:
            asked.timeline.mkdir(parents=True, exist_ok=True)
            (asked.timeline / f"{path.stem}.svg").write_text(timeline({path.stem: spoken}))
        yield path, spoken


def _diarizer(asked: argparse.Namespace) -> Diarizer:
    """Return what makes turns of a recording, as the artifacts that are asked for allow."""
    shaping = Shaping(asked.min_duration, asked.max_gap)
    if asked.hop <= 0:
        raise QuernError(f"--hop {asked.hop:g}: expected more than 0 seconds")
    if asked.speakers is not None and asked.speakers < 1:
        raise QuernError(f"--speakers {asked.speakers}: expected at least 1")
    options = Options(asked.hop, Clustering(threshold=asked.threshold, speakers=asked.speakers), shaping)
    model = _opened(asked.model)
    if model.network and hasattr(plugins.network(model.network), "predictions"):
        return _whole(asked, model, shaping)
    segmenter, embedder = _segmenter(model), _embedder(asked.embedding, model)
    if not (embedder or "embeddings" in model.outputs):
        _check_without_voices(asked, segmenter.window / RATE_HZ)
    return lambda path, progress: diarized(blocks(path, RATE_HZ), segmenter, embedder, options, progress)


def _opened(path: Path) -> Opened:
    """Return an artifact; say so if nobody trained it."""
    found = open_artifact(path)
    if found.weights == "synthetic":
        _say(f"{path}: made of stand-ins for trained weights: what it says of speakers means nothing")
    return found


def _check_without_voices(asked: argparse.Namespace, window_s: float) -> None:
    if asked.speakers:
        raise QuernError("--speakers: telling that many apart needs voices; give --embedding ARTIFACT")
    if asked.hop >= window_s:
        raise QuernError(
            f"--hop {asked.hop:g}: windows of {window_s:g} s do not overlap then, and only voices could tell that "
            "speakers of two are the same; expected less, or --embedding ARTIFACT"
        )


def _whole(asked: argparse.Namespace, model: Opened, shaping: Shaping) -> Diarizer:
    """Return what makes turns of the predictions of a network that hears the whole recording by itself."""
    if asked.embedding or asked.speakers:
        raise QuernError(f"{model.path}: tells speakers apart by itself; leave out --embedding and --speakers")
    network = plugins.module("network", model.network)
    form = network.Form(**model.form)

    def diarize(path: Path, progress: Progress) -> list[Turn]:
        found = []
        for predictions in network.predictions(model.runner, blocks(path, RATE_HZ), form):
            found.append(predictions)
            progress(sum(len(each) for each in found) * network.FRAME_S)
        probability = np.concatenate(found)  # (frame, speaker)
        tracks = [Track(i, 0, column > 0.5, column) for i, column in enumerate(probability.T)]
        return turns(tracks, network.FRAME_S, shaping)

    return diarize


def _segmenter(model: Opened) -> Segmenter:
    shape = model.inputs.get("audio", ())
    if len(shape) != 3 or not {"segments", "log_probs"} & set(model.outputs):
        raise QuernError(
            f"{model.path}: expected a segmentation, with `audio` (batch, 1, sample) in and `segments` out; found "
            f"{', '.join(model.inputs)} in and {', '.join(model.outputs)} out"
        )
    batch, window = (size if isinstance(size, int) else size[0] for size in (shape[0], shape[2]))
    if "embeddings" in model.outputs and batch != 1:
        raise QuernError(f"{model.path}: embeddings of {batch} windows at once cannot be told apart; use batch 1")
    return Segmenter(_renamed(model), window, batch)


def _renamed(model: Opened) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Return the runner, with the log probabilities called `segments` where they have their other name."""

    def run(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"segments" if name == "log_probs" else name: each for name, each in model.runner(arrays).items()}

    return run


def _embedder(path: Path | None, model: Opened) -> Embedder | None:
    if path is None:
        return None
    found = _opened(path)
    if set(found.inputs) != {"audio", "masks"} or "embeddings" not in found.outputs:
        raise QuernError(
            f"{path}: expected `audio` and `masks` in and `embeddings` out, as the artifacts of the form `audio` have; "
            f"found {', '.join(found.inputs)} in and {', '.join(found.outputs)} out"
        )
    if found.inputs["audio"][-1] != model.inputs["audio"][-1]:
        raise QuernError(
            f"{path}: hears windows of {found.inputs['audio'][-1]} samples, and {model.path} of "
            f"{model.inputs['audio'][-1]}; take artifacts of the same window"
        )
    return Embedder(found.runner)


def _progress(path: Path) -> Progress:
    """Return what shows on a terminal how much of a recording has been heard, in place; elsewhere it shows nothing."""
    if not sys.stderr.isatty():
        return lambda seconds: None
    whole_s = duration_s(path)
    return lambda seconds: print(
        f"{_CLEAR}{path.name}: {min(seconds, whole_s):.0f} of {whole_s:.0f} s", end="", file=sys.stderr, flush=True
    )


def _say(*lines: str) -> None:
    """Print lines in the place of the progress."""
    print(_CLEAR if sys.stderr.isatty() else "", end="", file=sys.stderr)
    print(*lines, sep="\n", file=sys.stderr)


def _write(asked: argparse.Namespace, found: Mapping[Path, Sequence[Turn]]) -> None:
    """Write the turns of all recordings, as RTTM into its file and else to standard output, or as JSON."""
    lines = [line for path, spoken in found.items() for line in rttm(spoken, path.stem)]
    if asked.rttm and found:
        draft = asked.rttm.with_name(f".{asked.rttm.name}.part")
        draft.write_text("".join(f"{line}\n" for line in lines))
        draft.rename(asked.rttm)
    if asked.json:
        print(json.dumps({str(path): [asdict(turn) for turn in spoken] for path, spoken in found.items()}, indent=2))
    elif lines and not asked.rttm:
        print(*lines, sep="\n")


def _summary(path: Path, found: Sequence[Turn]) -> Iterator[str]:
    """Yield what each speaker had to say, in seconds and as a share of all speech."""
    spoken = speech_s(found)
    total = sum(spoken.values())
    yield f"{path.name}: {_count(len(spoken), 'speaker')}, {_count(len(found), 'turn')}, {total:.1f} s of speech"
    for speaker, seconds in spoken.items():
        own = [turn for turn in found if turn.speaker == speaker]
        sure = sum(turn.confidence * turn.duration_s for turn in own) / seconds
        share, count = seconds / total, _count(len(own), "turn")
        yield f"  {speaker}  {seconds:7.1f} s  {share:4.0%}  {count}  confidence {sure:.2f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads may stop, as `head` does
    sys.exit(main())
