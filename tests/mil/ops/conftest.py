"""Property tests of operations have no deadline: a busy machine is not a wrong result."""

from hypothesis import settings

settings.register_profile("operations", deadline=None)
settings.load_profile("operations")
