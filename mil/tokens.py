"""The words of `model.mil`: names, numbers, strings and marks, one at a time, with where they stand."""

import re

from mil import grammar
from mil.errors import MilError

NAME, NUMBER, STRING, MARK, END = "name", "number", "string", "mark", "end"

_TOKEN = re.compile(
    rf"""\s*(?:
      (?P<{NAME}>{grammar.NAME.pattern})
    | (?P<{MARK}>->|\.\.\.|[][(){{}}<>,=;?])
    | (?P<{STRING}>"[^"\\]*(?:\\.[^"\\]*)*")
    | (?P<{NUMBER}>-?(?:0[xX][0-9a-fA-F]+(?:\.[0-9a-fA-F]*)?(?:[pP][+-]?[0-9]+)?
                     |[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|inf|nan))
    | (?P<{END}>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)


class Tokens:
    """A cursor over a text; `kind` and `text` are those of the token under it. Strings keep their quotes."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._next = 0
        self._start = 0
        self.kind = ""
        self.text = ""
        self.advance()

    def advance(self) -> str:
        """Move to the next token and return the one left behind; raises MilError where no token starts."""
        passed = self.text
        found = _TOKEN.match(self._source, self._next)
        if found is None:
            self._start = len(self._source) - len(self._source[self._next :].lstrip())
            raise self.error(f"no word of MIL starts with {self._source[self._start]!r}")
        kind = found.lastgroup
        assert kind is not None
        self.kind, self.text, self._start, self._next = kind, found[kind], found.start(kind), found.end()
        return passed

    def take(self, mark: str) -> None:
        """Move past `mark`; raises MilError where something else stands."""
        if self.text != mark:
            raise self.expected(repr(mark))
        self.advance()

    def took(self, mark: str) -> bool:
        """Move past `mark` and return True where it stands; otherwise return False."""
        if self.text != mark:
            return False
        self.advance()
        return True

    def take_kind(self, kind: str) -> str:
        """Move past a token of that kind and return it; raises MilError where another stands."""
        if self.kind != kind:
            raise self.expected(f"a {kind}")
        return self.advance()

    def expected(self, what: str) -> MilError:
        """Return the error that something else stands where `what` should."""
        found = "the end of the file" if self.kind == END else repr(self.text[:60])
        return self.error(f"expected {what}, found {found}")

    def error(self, message: str) -> MilError:
        """Return an error that begins with the line and column of the token under the cursor."""
        line = self._source.count("\n", 0, self._start) + 1
        column = self._start - self._source.rfind("\n", 0, self._start)
        return MilError(f"line {line}, column {column}: {message}")
