"""report.html: one file, readable on a phone and on paper, in dark and light, without a script or a network."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from diarization.timeline import timeline
from diarization.turns import Turn
from pipeline.page.devices import devices
from pipeline.page.plot import plot
from pipeline.page.rows import Row, networks, read_rows
from pipeline.page.runners import lines, table
from pipeline.truth import number

STYLE = Path(__file__).with_name("html.css")
_HEAD = ("variant", "weights", "MB", "truth", "ladder", "DER", "lint", "pass", "fail", "not run", "verdict")


def page(out: Path) -> str:
    """Return the report on every artifact in a folder."""
    rows = read_rows(out)
    sections = "".join(_section(network, found) for network, found in networks(rows).items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Quern: artifacts</title>'
        f"<style>{STYLE.read_text()}</style></head><body><h1>Artifacts</h1>{_summary(rows)}{_runners(rows)}{sections}"
        f"{_not_run(rows)}</body></html>\n"
    )


def _summary(rows: Sequence[Row]) -> str:
    counts = {word: sum(row.verdict == word for row in rows) for word in ("pass", "fail", "not run", "unverified")}
    words = ", ".join(
        f'<b class="{word.replace(" ", "-")}">{count} {word}</b>' for word, count in counts.items() if count
    )
    return (
        f"<p>{len(rows)} artifacts: {words or 'none'}. What could not be run here is <i>not run</i>, never a pass.</p>"
    )


def _runners(rows: Sequence[Row]) -> str:
    found = lines(rows)
    if not found:
        return ""
    head, *body = table(found)
    told = "".join(
        f"<tr><th>{escape(cells[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells[1:])}</tr>"
        for cells in body
    )
    return (
        '<section id="runners"><h2>All runners</h2><p><small>The worst of the artifacts of a precision, on the same'
        " recordings; rewrite and convert are the steps from upstream to the program in single precision.</small></p>"
        f'<div class="wide"><table><thead><tr>{"".join(f"<th>{cell}</th>" for cell in head)}</tr></thead>'
        f"<tbody>{told}</tbody></table></div></section>"
    )


def _section(network: str, rows: Sequence[Row]) -> str:
    failures = "".join(f"<li>{line}</li>" for row in rows for line in _failures(row))
    return (
        f'<section id="{escape(network)}"><h2>{escape(network)}</h2>'
        f"{f'<ul class=fail>{failures}</ul>' if failures else ''}"
        f'<div class="wide"><table><thead><tr>{"".join(f"<th>{cell}</th>" for cell in _HEAD)}</tr></thead><tbody>'
        f"{''.join(_table_row(row) for row in rows)}</tbody></table></div>{plot(rows)}{_timelines(rows)}"
        f"{_lint(rows)}{devices(rows)}</section>"
    )


def _table_row(row: Row) -> str:
    truth = "–" if row.faithful is None else f"{number(row.faithful[1])} <small>{row.faithful[0]}</small>"
    ladder = " · ".join(f"{step} {number(value)}" for step, value in row.ladder.items())
    error = row.measured("der.error")
    divergence = row.measured("der.divergence")
    apart = "" if divergence is None else f" <small>{divergence:.2f} from fp32</small>"
    cells = (
        f"<th>{escape(row.variant)}</th>",
        f"<td>{row.weights}</td>",
        f"<td>{row.size_mb:.2f}</td>",
        f"<td>{truth}</td>",
        f"<td><small>{ladder or '–'}</small></td>",
        f"<td>{'–' if error is None else f'{error:.1f} %'}{apart}</td>",
        f"<td><small>{_findings(row)}</small></td>",
        *(f"<td>{row.count(word)}</td>" for word in ("pass", "fail", "not run")),
        f'<td class="{row.verdict.replace(" ", "-")}">{row.verdict}</td>',
    )
    return f"<tr>{''.join(cells)}</tr>"


def _findings(row: Row) -> str:
    found = row.checks.get("lint.errors")
    return "–" if found is None else escape(found["note"]) or "none"


def _failures(row: Row) -> Iterator[str]:
    for name, result in row.checks.items():
        if result["outcome"] == "fail":
            measured = number(result["measured"])
            sentence = f"{row.variant}: {name}: {measured} {result['unit']}, limit {result['limit']}: {result['note']}"
            yield escape(sentence)


def _timelines(rows: Sequence[Row]) -> str:
    """Return who spoke when in each recording as the labels have it and as the smallest artifact has it."""
    told = [row for row in rows if row.detail("der.divergence").get("turns")]
    if not told:
        return ""
    smallest = min(told, key=lambda row: row.size_mb)
    drawn = []
    for recording, voices in smallest.detail("der.divergence")["turns"].items():
        found = {name: [Turn(*turn) for turn in turns] for name, turns in voices.items()}
        drawn.append(f"<figure>{timeline(found)}<figcaption>{escape(recording)}</figcaption></figure>")
    return f"<h3>Who spoke when: {escape(smallest.variant)}</h3>{''.join(drawn)}"


def _lint(rows: Sequence[Row]) -> str:
    """Return where the operations of each program could run, as far as the rules tell."""
    told = [row for row in rows if row.detail("lint.errors").get("functions")]
    if not told:
        return ""
    lines = "".join(
        _placement(row.variant, function) for row in told for function in row.detail("lint.errors")["functions"]
    )
    return (
        "<h3>Operations for the Neural Engine</h3><p><small>The bar is what no rule from others' devices takes off it;"
        f' nothing ran on one here.</small></p><div class="bars">{lines}</div>'
    )


def _placement(variant: str, function: Mapping[str, Any]) -> str:
    operations, leaving = function["operations"], function["leaving"]
    share = 100 * (1 - leaving / operations) if operations else 0
    return (
        f'<div><span>{escape(variant)}</span><span class="bar"><i style="width:{share:.0f}%"></i></span>'
        f"<span>{leaving} of {operations}</span></div>"
    )


def _not_run(rows: Sequence[Row]) -> str:
    reasons: dict[tuple[str, str], int] = {}
    for row in rows:
        for name, result in row.checks.items():
            if result["outcome"] == "not run":
                reasons[name, result["note"]] = reasons.get((name, result["note"]), 0) + 1
    if not reasons:
        return ""
    lines = "".join(
        f"<li>{escape(name)} <small>({count})</small>: {escape(note)}</li>"
        for (name, note), count in sorted(reasons.items())
    )
    return f"<h2>Not run</h2><ul>{lines}</ul>"
