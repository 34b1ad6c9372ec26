"""Generated tables in README.md and on the pages of docs/, each between two marks that name it."""

from pathlib import Path

from pipeline.types import QuernError


def put(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name: begin -->` and `<!-- name: end -->`; raises QuernError without them."""
    before, after = around(page, name)
    page.write_text(f"{before}\n{text}\n{after}")


def around(page: Path, name: str) -> tuple[str, str]:
    """Return what stands before and behind a table, marks included; raises QuernError where it has none."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, opening, rest = page.read_text().partition(begin)
    _, closing, after = rest.partition(end)
    if not opening or not closing:
        raise QuernError(f"{page}: expected the marks {begin} and {end} around the table")
    return before + begin, end + after
