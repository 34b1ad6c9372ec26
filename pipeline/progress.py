"""Lines on a screen while variants are built: a live display on a terminal, plain lines anywhere else."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, TextIO

from pipeline.report import dotted, line
from pipeline.schedule import Ending

# A log that is silent for longer looks like a build that hangs.
_SILENCE_S = 60.0


class Progress:
    """Tells what happens on a stream; on a terminal a transient line for each variant shows its step and its time.

    Elsewhere a variant that takes minutes says about once a minute where it is.
    """

    def __init__(self, stream: TextIO, live: Any = None) -> None:
        self.stream, self.live = stream, live
        self.working: dict[str, tuple[str, float]] = {}
        self.heard: dict[str, float] = {}

    def step(self, variant: str, name: str) -> None:
        """A step of a variant begins, or is further than before."""
        now = time.monotonic()
        _, began = self.working.get(variant, ("", now))
        self.working[variant] = (name, began)
        if self.live is None and now - self.heard.setdefault(variant, began) > _SILENCE_S:
            self.heard[variant] = now
            self.say(f"{variant}: {name} ({now - began:.0f} s)")

    def done(self, outcome: Ending, fresh: bool = False) -> None:
        """A variant is done."""
        self.finish(outcome.variant.id, line(outcome, fresh))

    def finish(self, name: str, outcome: str) -> None:
        """Something of this name is done."""
        self.working.pop(name, None)
        self.heard.pop(name, None)
        self.say(dotted(name) + outcome)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self.live is None:
            print(text, file=self.stream, flush=True)
        else:
            self.live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __rich__(self) -> Any:
        from rich.text import Text

        now = time.monotonic()
        lines = [f"{dotted(name)}{step} {now - began:.0f} s" for name, (step, began) in list(self.working.items())]
        return Text("\n".join(lines))


@contextlib.contextmanager
def progress(stream: TextIO) -> Iterator[Progress]:
    """Show progress on a stream while the context lasts."""
    if not stream.isatty():
        yield Progress(stream)
        return
    from rich.console import Console
    from rich.live import Live

    display = Progress(stream)
    with Live(display, console=Console(file=stream), transient=True, refresh_per_second=4) as live:
        display.live = live
        yield display
