"""Copies that share their blocks on disk with what they are copies of."""

import os
import shutil
from pathlib import Path


def link_tree(source: Path, destination: Path) -> None:
    """Make `destination` a copy of a folder or file that shares its blocks on disk where that is possible."""
    if source.is_dir():
        shutil.copytree(source, destination, copy_function=link)
    else:
        link(source, destination)


def link(source: str | Path, destination: str | Path) -> None:
    """Hard-link a file, or copy it where the file system cannot link."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)
