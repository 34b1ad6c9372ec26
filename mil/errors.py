"""The exception that this package raises for anything wrong outside it, and one kind of it."""


class MilError(Exception):
    """A package, bundle, program or input that cannot be used; its text is one clear sentence.

    The sentence says what was expected, what was found, where, and what to do when that is not obvious.
    """

    def __init__(self, text: str) -> None:
        """Take the sentence; names from damaged files may hold line ends and the like, which are shown escaped."""
        super().__init__("".join(char if char.isprintable() else repr(char)[1:-1] for char in text))


class UnknownFormError(MilError):
    """Something whose form in a compiled bundle is not known, so that nothing can be written or compared."""
