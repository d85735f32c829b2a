"""``python -m replay.cli``: the `replay` command without an installed script."""

import sys

from replay.cli import main

sys.exit(main())
