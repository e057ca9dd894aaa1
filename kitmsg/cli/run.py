"""``kitmsg run``: production workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitmsg.cli.output import UsageError, usage
from kitmsg.worker.settings import NATS_NAMES, WORKER_NAMES, add_flags, load_settings

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "run"]

_EPILOG = """\
TARGET is module:Class, module:function, module, file.py[:Class] or a folder.

Every option can also stand in the environment, by the name in brackets, or in the table
[tool.kitmsg] of pyproject.toml; an option wins over the environment, that over the table.
NATS_PASSWORD and NATS_TOKEN are read from the environment only, or from the files that
NATS_PASSWORD_FILE and NATS_TOKEN_FILE name.

SIGTERM or Ctrl-C drains; a second one ends at once; SIGHUP replaces the workers one after
the other, without a failed call.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.epilog = _EPILOG
    parser.set_defaults(rest="services")
    parser.add_argument("services", nargs="*", metavar="TARGET", help="what to serve")
    add_flags(parser.add_argument_group("workers"), WORKER_NAMES)
    add_flags(parser.add_argument_group("bus"), NATS_NAMES)


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop; returns the exit code."""
    from kitmsg import logs
    from kitmsg.worker.parent import run_parent

    flags = vars(options)
    with usage():
        settings = load_settings({**flags, "services": flags["services"] or None})
    if not settings.services:
        raise UsageError(
            "nothing to serve: write kitmsg run module:Class, or set `services` in"
            " [tool.kitmsg]"
        )
    logs.set_up(**settings.logging())
    with usage():  # a port of --health that is taken
        return run_parent(settings.services, settings)
