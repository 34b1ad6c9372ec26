"""The one exception that this package raises for anything wrong outside it."""


class MilError(Exception):
    """A package, bundle, program or input that cannot be used; its text is one clear sentence.

    The sentence says what was expected, what was found, where, and what to do when that is not obvious.
    """
