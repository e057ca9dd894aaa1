"""``python -m kitmsg_gateways.mcp``: one gateway on the bus that ``NATS_URL`` names."""

from kitmsg_gateways.edge.process import main

if __name__ == "__main__":
    main("mcp")
