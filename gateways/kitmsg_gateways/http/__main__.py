"""``python -m kitmsg_gateways.http``: one gateway on the bus that ``NATS_URL`` names."""

from __future__ import annotations

import sys

from kitmsg_gateways.edge.process import main

if __name__ == "__main__":
    sys.exit(main("http"))
