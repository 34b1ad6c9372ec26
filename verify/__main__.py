"""`python -m verify`."""

import sys

from verify.commands.line import main

if __name__ == "__main__":
    sys.exit(main())
