"""``kitmsg discover ADDRESS``: the instances that an address means, now or as they change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Any

from kitmsg.cli.output import UsageError, table, to_json
from kitmsg.cli.remote import add_bus_flags, connected, settings_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator

    from kitmsg.bus import Bus
    from kitmsg.discovery.instance import Instance
    from kitmsg.discovery.instancer import Instancer

__all__ = ["add_arguments", "run"]

_EPILOG = """\
addresses:
  10.0.0.5:8080,10.0.0.6:8080                     as given
  dns://payments.example:8080                     A and AAAA records
  srv://_grpc._tcp.payments.example               SRV records; ?resolver=HOST:PORT
  consul://127.0.0.1:8500/payments?tag=v2&dc=eu   passing instances
  etcd://127.0.0.1:2379/services/payments/        keys below a prefix
  zk://127.0.0.1:2181/services/payments           children of a node
  eureka://127.0.0.1:8761/eureka/PAYMENTS         UP instances of an app
  bus:payments                                    instances that answer on the bus
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.epilog = _EPILOG
    parser.add_argument("address", metavar="ADDRESS", help="where to ask")
    parser.add_argument(
        "--watch", action="store_true", help="go on, and show every change"
    )
    parser.add_argument(
        "--json", action="store_true", help="JSON, one line per set, for programs"
    )
    add_bus_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Show the instances; returns the exit code."""
    log = logging.getLogger("kitmsg.discovery")
    if options.watch:
        log.setLevel(logging.INFO)
        log.addHandler(logging.StreamHandler())
    else:
        log.addHandler(logging.NullHandler())  # the error says it
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options))
    return 0


async def _run(options: argparse.Namespace) -> None:
    async with _opened(options) as instancer:
        sets: asyncio.Queue[tuple[Instance, ...]] = asyncio.Queue()
        instancer.watch(sets.put_nowait)
        state = await instancer.settled()
        if state.error is not None and not options.watch:
            raise state.error
        while True:
            _show(await sets.get(), is_json=options.json)
            if not options.watch:
                return


@contextlib.asynccontextmanager
async def _opened(options: argparse.Namespace) -> AsyncIterator[Instancer]:
    """Make the instancer, with a connection to the bus where it is asked."""
    from kitmsg.bus.memory import MemoryBus
    from kitmsg.discovery.address import is_discovered

    async with contextlib.AsyncExitStack() as stack:
        bus: Bus | None = None
        is_on_bus = options.address.startswith("bus:")
        if is_on_bus and is_discovered(options.address):
            _made(options.address, MemoryBus())  # mistakes come before the connection
            kit = await stack.enter_async_context(connected(settings_of(options)))
            bus = kit.bus
        made = _made(options.address, bus)
        stack.push_async_callback(made.close)
        yield made


def _made(address: str, bus: Bus | None) -> Instancer:
    from kitmsg.discovery.address import instancer

    try:
        return instancer(address, bus=bus)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc


def _show(instances: tuple[Instance, ...], *, is_json: bool) -> None:
    if is_json:
        print(to_json([_facts(each) for each in instances], is_compact=True))
    elif not instances:
        print("no instances")
    else:
        heads = ("ADDRESS", "PRIORITY", "WEIGHT", "ZONE", "VERSION", "TAGS", "METADATA")
        print(table(heads, [_row(each) for each in instances]))
    sys.stdout.flush()


def _facts(instance: Instance) -> dict[str, Any]:
    return {
        "address": instance.address,
        "priority": instance.priority,
        "weight": instance.weight,
        "zone": instance.zone,
        "version": instance.version,
        "tags": list(instance.tags),
        "metadata": dict(instance.metadata),
    }


def _row(instance: Instance) -> list[str]:
    facts = {
        **_facts(instance),
        "weight": f"{instance.weight:g}",
        "tags": ",".join(instance.tags),
        "metadata": " ".join(f"{k}={v}" for k, v in sorted(instance.metadata.items())),
    }
    return [str(value) for value in facts.values()]
