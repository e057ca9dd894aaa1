"""``python -m kitmsg.worker FD TARGET...``: the process that `kitmsg.worker.child` starts."""

from __future__ import annotations

import sys

from kitmsg.worker.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
