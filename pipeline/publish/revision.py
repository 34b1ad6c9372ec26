"""Which revision of Quern is at work, as git tells it."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Revision:
    """A commit, where it can be had from, and the files that are not as they are in it."""

    commit: str
    url: str | None
    changed: tuple[str, ...]


def revision(root: Path) -> Revision | None:
    """Return the revision of the checkout at `root`; None where there is no git, no checkout or no commit."""
    top = _git(root, "rev-parse", "--show-toplevel")
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    status = _git(root, "status", "--porcelain", "--untracked-files=all")
    if top is None or commit is None or status is None or Path(top).resolve() != root.resolve():
        return None
    url = _git(root, "config", "--get", "remote.origin.url")
    return Revision(commit, _without_credentials(url) if url else None, tuple(x[3:] for x in status.splitlines()))


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


def _without_credentials(url: str) -> str:
    return re.sub(r"^(\w+://)[^/@]*@", r"\1", url)
