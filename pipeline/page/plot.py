"""Size against truth, as SVG."""

import math
from collections.abc import Iterator, Sequence
from html import escape

from pipeline.page.rows import Row

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 300, 66, 20, 16, 44
# Share of frames, decisions or cosine that is lost; a difference of processors is no such share.
_PLOTTED = ("same speakers", "same decisions", "worst cosine")
_LEAST_LOSS = 1e-6
_LINE, _NAME = 11, 90  # what a name takes, in units of the picture


def plot(rows: Sequence[Row]) -> str:
    """Return size (MB) against what is lost of upstream's truth, both on logarithmic axes; empty for fewer than two."""
    points = [
        (row, row.size_mb, max(1 - row.faithful[1], _LEAST_LOSS))
        for row in rows
        if row.faithful and row.faithful[0] in _PLOTTED
    ]
    if len(points) < 2:
        return ""
    title = next(row.faithful[0] for row, _, _ in points if row.faithful)
    across, up = _decades([size for _, size, _ in points], 0.05), _decades([loss for _, _, loss in points], 0.2)
    marks = _marks([(row, _x(size, across), _y(loss, up)) for row, size, loss in points])
    return "".join(
        [
            f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
            f"<title>size in MB against 1 − {escape(title)}</title>",
            *_ticks(across, up),
            *marks,
            f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 6}" text-anchor="middle">MB</text>',
            f'<text transform="translate(13 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle">',
            f"1 − {escape(title)}</text></svg>",
        ]
    )


def _decades(values: Sequence[float], margin: float) -> tuple[float, float]:
    low, high = math.log10(min(values)), math.log10(max(values))
    room = max(margin, (high - low) * 0.08)
    return low - room, high + room


def _x(value: float, across: tuple[float, float]) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (math.log10(value) - across[0]) / (across[1] - across[0])


def _y(value: float, up: tuple[float, float]) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (math.log10(value) - up[0]) / (up[1] - up[0])


def _marks(points: Sequence[tuple[Row, float, float]]) -> Iterator[str]:
    """Yield a dot for each point, and its name where that would not cover another name."""
    named: list[tuple[float, float]] = []
    for row, x, y in points:
        outcome = row.verdict.replace(" ", "-")
        yield f'<circle class="{outcome}" cx="{x:.1f}" cy="{y:.1f}" r="4">'
        yield f"<title>{escape(row.variant)}: {row.size_mb:.2f} MB</title></circle>"
        if all(abs(y - other_y) > _LINE or abs(x - other_x) > _NAME for other_x, other_y in named):
            named.append((x, y))
            left = x < _WIDTH - _NAME
            place = f'x="{x + (6 if left else -6):.1f}" y="{y - 4:.1f}" text-anchor="{"start" if left else "end"}"'
            yield f'<text class="small" {place}>{escape(row.variant.partition("/")[2])}</text>'


def _ticks(across: tuple[float, float], up: tuple[float, float]) -> Iterator[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for value in _round_numbers(across):
        x = _x(value, across)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>'
    for value in _round_numbers(up):
        y = _y(value, up)
        yield f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'


def _round_numbers(between: tuple[float, float]) -> list[float]:
    """Return 1, 2 and 5 times powers of ten between two powers of ten; only the powers where there are many."""
    low, high = math.floor(between[0]), math.ceil(between[1])
    factors = (1, 2, 5) if high - low <= 3 else (1,)
    found = [factor * 10.0**power for power in range(low, high + 1) for factor in factors]
    return [value for value in found if between[0] <= math.log10(value) <= between[1]]
