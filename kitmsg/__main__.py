"""``python -m kitmsg``: the same as ``kitmsg``."""

from __future__ import annotations

import sys

from kitmsg.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
