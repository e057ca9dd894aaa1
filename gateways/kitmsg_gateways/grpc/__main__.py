"""``python -m kitmsg_gateways.grpc``: the same as ``kitmsg gateway grpc``."""

from __future__ import annotations

import sys

from kitmsg.cli import main

if __name__ == "__main__":
    sys.exit(main(["gateway", "grpc", *sys.argv[1:]]))
