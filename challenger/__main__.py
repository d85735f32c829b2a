"""``python -m challenger``: the same as the command."""

import sys

from challenger.cli import main

if __name__ == "__main__":
    sys.exit(main())
