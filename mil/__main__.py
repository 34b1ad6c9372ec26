"""`python -m mil`."""

import sys

from mil.cli import main

if __name__ == "__main__":
    sys.exit(main())
