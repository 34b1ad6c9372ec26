"""A picture of who spoke when, as SVG that needs nothing beside it and follows the reader's light or dark scheme."""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from diarization.turns import Turn

_WIDTH, _LABELS, _ROW, _GAP, _AXIS = 960, 150, 16, 10, 22
# Seven colours that people with any colour vision tell apart. Source: Okabe & Ito 2008, without black.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}line{stroke:#8888}@media(prefers-color-scheme:dark){text{fill:#ddd}}"
)


def timeline(tracks: Mapping[str, Sequence[Turn]], length_s: float | None = None) -> str:
    """Return an SVG with one group of rows for each name, say reference above hypothesis, and a row for each speaker.

    length_s   where the picture ends; by default where the last turn does
    """
    length_s = length_s or max((turn.end_s for turns in tracks.values() for turn in turns), default=1.0)
    rows = list(_rows(tracks))
    height = rows[-1][0] + _ROW + _AXIS if rows else _AXIS + _ROW
    drawn = [mark for top, label, turns, colour in rows for mark in _row(top, label, turns, colour, length_s)]
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" width="100%">',
            f"<title>{escape(', '.join(tracks))}: who spoke when</title><style>{_STYLE}</style>",
            *drawn,
            *_axis(height, length_s),
            "</svg>",
        ]
    )


def _rows(tracks: Mapping[str, Sequence[Turn]]) -> Iterator[tuple[int, str, list[Turn], str]]:
    """Yield top, label, turns and colour of every row."""
    top = 0
    for name, turns in tracks.items():
        speakers = sorted({turn.speaker for turn in turns}) or [""]
        for i, speaker in enumerate(speakers):
            label = f"{name} {speaker}".strip()
            yield top, label, [t for t in turns if t.speaker == speaker], _COLOURS[i % len(_COLOURS)]
            top += _ROW
        top += _GAP


def _row(top: int, label: str, turns: Sequence[Turn], colour: str, length_s: float) -> Iterator[str]:
    yield f'<text x="0" y="{top + 12}">{escape(label[:24])}</text>'
    for turn in turns:
        left, right = (_x(second, length_s) for second in (turn.start_s, turn.end_s))
        yield (
            f'<rect x="{left:.1f}" y="{top + 2}" width="{max(right - left, 0.5):.1f}" height="{_ROW - 4}" '
            f'fill="{colour}"><title>{escape(label)}: {turn.start_s:.2f}–{turn.end_s:.2f} s</title></rect>'
        )


def _axis(height: int, length_s: float) -> Iterator[str]:
    step = 10 ** math.floor(math.log10(length_s / 4)) if length_s > 0 else 1
    step *= next(factor for factor in (1, 2, 5, 10) if length_s / (step * factor) <= 12)
    for i in range(int(length_s / step) + 1):
        x = _x(i * step, length_s)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - _AXIS + 4}" stroke-width="0.5"/>'
        yield f'<text x="{x:.1f}" y="{height - 4}" text-anchor="middle">{i * step:g}</text>'


def _x(second: float, length_s: float) -> float:
    return _LABELS + (_WIDTH - _LABELS - 20) * second / length_s
