"""Go kit's addsvc, all of its doors at once.

    python -m examples.addsvc

It starts a NATS server (or uses the one that NATS_URL names), the service, and a gateway
for each protocol, on the ports that Go kit's addsvc has.  Then

    curl -d '{"a":1,"b":2}' localhost:8081/sum                     prints {"v":3}
    addcli -http-addr=localhost:8081 -method=sum 1 2               prints 1 + 2 = 3
    addcli -jsonrpc-addr=localhost:8081/rpc -method=sum 1 2        prints 1 + 2 = 3

and likewise with Go kit's client over gRPC (8082), Thrift (8083) and NATS.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import kitmsg
import kitmsg_gateways.grpc
import kitmsg_gateways.http
import kitmsg_gateways.thrift
from examples.addsvc.gokit import make_service
from kitmsg.bus.embedded import EmbeddedServer

HERE = Path(__file__).parent


async def open_doors(
    kit: kitmsg.Kit, *, http: int = 0, grpc: int = 0, thrift: int = 0
) -> dict[str, Any]:
    """Start the three gateways; returns them by protocol.

    Args:
        kit: Where the service is.
        http: Port for HTTP and JSON-RPC; 0 for a free one.
        grpc: Port for gRPC.
        thrift: Port for Thrift.
    """
    proto, idl = str(HERE / "addsvc.proto"), str(HERE / "addsvc.thrift")
    return {
        "http": await kitmsg_gateways.http.serve(
            kit, kitmsg_gateways.http.GatewayOptions(port=http)
        ),
        "grpc": await kitmsg_gateways.grpc.serve(
            kit, kitmsg_gateways.grpc.GatewayOptions(port=grpc, proto=(proto,))
        ),
        "thrift": await kitmsg_gateways.thrift.serve(
            kit, kitmsg_gateways.thrift.GatewayOptions(port=thrift, thrift=(idl,))
        ),
    }


async def main(options: argparse.Namespace) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with contextlib.AsyncExitStack() as stack:
        url = options.nats_url
        if not url:
            url = (await stack.enter_async_context(EmbeddedServer())).url
        kit = await stack.enter_async_context(kitmsg.connect(url))
        await kit.serve(make_service(options.sum_subject, options.concat_subject))
        doors = await open_doors(
            kit, http=options.http, grpc=options.grpc, thrift=options.thrift
        )
        for protocol, server in doors.items():
            stack.push_async_callback(server.stop)
            print(f"{protocol:7}{server.url}")
        print(f"nats   {url}", flush=True)
        await ended.wait()


def parse() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m examples.addsvc")
    parser.add_argument("--http", type=int, default=8081, help="HTTP and JSON-RPC")
    parser.add_argument("--grpc", type=int, default=8082)
    parser.add_argument("--thrift", type=int, default=8083)
    parser.add_argument("--nats-url", default=os.environ.get("NATS_URL", ""))
    parser.add_argument("--sum-subject", default="addsvc.sum")
    parser.add_argument("--concat-subject", default="addsvc.concat")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        asyncio.run(main(parse()))
    except OSError as error:  # such as a port that somebody else has
        sys.exit(f"addsvc: {error.strerror or error}")
