"""What the command line takes to publish, and to build in shares on several machines."""

import argparse
import os
import re
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shard", type=shard, metavar="I/N", help="only the I-th of N shares of the variants")
    parser.add_argument("--results-out", type=Path, metavar="DIR", help="leave measurements for builds elsewhere")
    group = parser.add_argument_group("publishing")
    group.add_argument("--publish", action="store_true", help="upload what is built to where variants.yaml says")
    group.add_argument("--dry-run", action="store_true", help="show what --publish would do, and send nothing")
    group.add_argument("--hub-owner", metavar="NAME", default=os.environ.get("QUERN_HUB_OWNER", ""),
                       help="owner of repositories that name none (default: QUERN_HUB_OWNER)")  # fmt: skip


def shard(text: str) -> tuple[int, int]:
    """Return which share of how many; raises argparse.ArgumentTypeError for anything but 1 ≤ I ≤ N."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"expected I/N with 1 ≤ I ≤ N, such as 1/4, found {text!r}")
    return int(found[1]), int(found[2])
