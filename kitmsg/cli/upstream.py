"""``kitmsg upstream KIND``: an HTTP, gRPC or Thrift server elsewhere, served on the bus.

The kinds are plugins, see `kitmsg.worker.plugins`: the fields of one's `UpstreamOptions`
are the flags, and its `open_upstream` makes what is served.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kitmsg.cli.fields import add_fields, chosen
from kitmsg.cli.gateway import add_kinds
from kitmsg.cli.output import UsageError, usage
from kitmsg.worker.plugins import UPSTREAMS, title
from kitmsg.worker.settings import NATS_NAMES, WORKER_NAMES, add_flags, load_settings

if TYPE_CHECKING:
    import argparse

    from kitmsg.worker.plugins import UpstreamKind

__all__ = ["add_arguments", "run"]

_EPILOG = """\
examples:
  kitmsg upstream http https://api.example/v1 --openapi spec.json --as payments
  kitmsg upstream http http://users.internal --route 'get=GET /users/{id}' --as users

Of several ADDRESSes a call goes where it waits least, or as --pick says; one that cannot be
reached is passed over.  An ADDRESS may be one of discovery, such as
consul://127.0.0.1:8500/payments; kitmsg discover --help lists them.

SIGTERM or Ctrl-C drains; SIGHUP replaces the workers one after the other, which reads the
document anew.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_kinds(parser, UPSTREAMS, _fill, text="call a server that speaks {}")


def _fill(one: argparse.ArgumentParser, kind: UpstreamKind, name: str) -> None:
    shown = title(kind, name)
    one.description = f"Serve on the bus what a server offers over {shown}."
    one.epilog = _EPILOG
    one.set_defaults(rest="addresses")
    one.add_argument(
        "addresses", nargs="*", metavar="ADDRESS", help="where the server is"
    )
    one.add_argument(
        "--as", dest="name", metavar="NAME", help="name of the service on the bus"
    )
    add_fields(one, kind.UpstreamOptions)
    add_flags(one.add_argument_group("workers"), WORKER_NAMES)
    add_flags(one.add_argument_group("bus"), NATS_NAMES)


def run(options: argparse.Namespace) -> int:
    """Serve until a signal; returns the exit code."""
    from kitmsg import logs
    from kitmsg.message import check_name
    from kitmsg.worker.pushing import check_metrics
    from kitmsg.worker.upstream import run_upstream

    if not options.name:
        raise UsageError("say what to call it on the bus: --as payments")
    try:
        check_name(options.name, "the service")
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    kind = UPSTREAMS.load(options.kind)
    given = chosen(kind.UpstreamOptions, options)
    flags = {
        n: v for n, v in vars(options).items() if n in (*WORKER_NAMES, *NATS_NAMES)
    }
    with usage():
        settings = load_settings(flags)
        check_metrics(settings)  # before the server is asked
    logs.set_up(**settings.logging())
    asyncio.run(_tried(kind, options, given))
    with usage():  # a port of --health that is taken
        return run_upstream(
            options.kind, options.name, options.addresses, given, settings
        )


async def _tried(kind: UpstreamKind, options: argparse.Namespace, given: Any) -> None:
    """Read once what the server offers: what is wrong is told before workers start.

    Raises:
        UsageError: Options or files are wrong.
        KitError: The server cannot be asked.
    """
    from kitmsg.errors import FailedPrecondition, InvalidArgument

    try:
        made = await kind.open_upstream(options.name, options.addresses, given)
    except (ValueError, FailedPrecondition, InvalidArgument) as exc:
        raise UsageError(str(exc)) from exc
    await made.close()
