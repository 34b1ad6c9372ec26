"""The exception that this package raises for anything wrong outside it, and one kind of it."""


class MilError(Exception):
    """A package, bundle, program or input that cannot be used; its text is one clear sentence.

    The sentence says what was expected, what was found, where, and what to do when that is not obvious.
    """


class UnknownFormError(MilError):
    """Something whose form in a compiled bundle is not known, so that nothing can be written or compared."""
