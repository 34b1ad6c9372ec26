"""What a Mac measured of the artifacts of a network: a table apart from what rules predict here."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pipeline.page.rows import Row
from pipeline.truth import number

_COLUMNS = {
    "placement.loads": "loads on",
    "placement.neural_engine": "planned for the Neural Engine",
    "placement.milliseconds_per_10s": "ms for 10 s",
    "placement.real_time_factor": "real-time factor",
    "placement.peak_memory": "MB",
    "prediction.difference": "from the interpreter",
}


def devices(rows: Sequence[Row]) -> str:
    """Return a table of the artifacts that a Mac has measured; empty where it has measured none."""
    told = [row for row in rows if any(row.measured(name) is not None for name in _COLUMNS)]
    if not told:
        return ""
    head = "".join(f"<th>{title}</th>" for title in ("variant", *_COLUMNS.values(), "on"))
    return (
        '<h3>Measured on a Mac</h3><div class="wide"><table><thead><tr>'
        f"{head}</tr></thead><tbody>{''.join(map(_line, told))}</tbody></table></div>"
    )


def _line(row: Row) -> str:
    cells = (f'<td class="{_outcome(row, name)}">{number(row.measured(name))}</td>' for name in _COLUMNS)
    return f"<tr><th>{escape(row.variant)}</th>{''.join(cells)}<td><small>{escape(_host(row))}</small></td></tr>"


def _outcome(row: Row, name: str) -> str:
    found = row.checks.get(name)
    return "" if found is None else found["outcome"].replace(" ", "-")


def _host(row: Row) -> str:
    """Return the machine that measured, where it was another one, and the day."""
    hosts: list[Mapping[str, Any]] = [row.detail(name).get("measured_on", {}) for name in _COLUMNS]
    host = next((each for each in hosts if each), None)
    return f"{host.get('chip') or host['machine']}, {host['system']} {host['version']}, {host['day']}" if host else "–"
