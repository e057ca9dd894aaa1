"""``python -m kitmsg_gateways.http``: one gateway on the bus that ``NATS_URL`` names."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from kitmsg import loops
from kitmsg.errors import KitError
from kitmsg.worker import logs
from kitmsg_gateways.http import GatewayOptions, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg_gateways.http.server import GatewayServer

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a gateway until a signal ends it.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        The exit code: 0, or 1 with a sentence when it could not start.
    """
    said = _parser().parse_args(argv)
    logs.set_up()
    options = GatewayOptions(
        host=said.host,
        port=said.port,
        timeout=said.timeout,
        access_log=said.access_log,
        forward_authorization=said.forward_authorization,
    )
    try:
        loops.run(run(options, servers=said.servers, on_ready=_say))
    except (KitError, OSError) as exc:
        print(f"gateway: {exc}", file=sys.stderr)  # noqa: T201  # a command's own word
        return 1
    return 0


def _say(server: GatewayServer) -> None:
    print(f"{server.url}  docs: {server.url}/docs", flush=True)  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    defaults = GatewayOptions()
    parser = argparse.ArgumentParser(
        prog="python -m kitmsg_gateways.http",
        description="Serve every service on the bus over HTTP.",
    )
    parser.add_argument("--host", default=defaults.host)
    parser.add_argument("--port", type=int, default=defaults.port)
    parser.add_argument(
        "--servers", help="NATS URL; default: NATS_URL, else the local bus"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=defaults.timeout,
        help="seconds a call may take",
    )
    parser.add_argument("--access-log", action="store_true", help="a line per request")
    parser.add_argument(
        "--forward-authorization",
        action="store_true",
        help="pass the Authorization header on to services",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
