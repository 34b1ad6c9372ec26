"""What a folder of artifacts holds, for people: report.html, which needs nothing beside it, and README.md."""

import os
from pathlib import Path


def write(out: Path) -> None:
    """Write both files into a folder of artifacts, each whole or not at all, where they say something new."""
    from pipeline.page.html import page
    from pipeline.page.markdown import readme

    for name, text in (("report.html", page(out)), ("README.md", readme(out))):
        if (out / name).is_file() and (out / name).read_text() == text:
            continue
        draft = out / f".{name}.{os.getpid()}"
        draft.write_text(text)
        draft.rename(out / name)
