"""``kitmsg dev``: everything on this machine, until Ctrl-C.

An embedded NATS server, one worker process, and the gateways in this process: HTTP, and
gRPC, Thrift and MCP where they are asked for.  A
changed file replaces the worker: the new one is ready before the old one drains, so no
call fails; one that cannot start leaves the old one serving.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.fields import port_number, read_option
from kitmsg.cli.output import UsageError, paint, usage
from kitmsg.cli.ports import free_port
from kitmsg.cli.reload import Changes, can_follow, relative
from kitmsg.errors import FailedPrecondition, Unavailable
from kitmsg.worker.settings import LOG_NAMES, add_flags, load_settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.service import Kit
    from kitmsg.worker.settings import Settings
    from kitmsg.worker.supervisor import Supervisor

__all__ = ["add_arguments", "run"]

_GATEWAYS: Final = ("http", "grpc", "thrift", "mcp")
_HTTP: Final = 8080
_NATS: Final = 4222
_DRAIN_SECONDS: Final = 5.0
_SIGNING: Final = "KITMSG_DEV_SIGNING_KEY"
_TRUSTED: Final = "KITMSG_DEV_TRUSTED_KEY"
_LOGS: Final = (*LOG_NAMES, "access_log", "metrics", "traces", "trace_errors")
_STORES: Final = ("outbox",)
_EPILOG: Final = """\
TARGET is a file, a folder, or module:Class; by default what `services` in [tool.kitmsg]
names.

With NATS_URL set, services use that bus; else a server of their own is started, bound to
this machine, with its store in a temporary folder.  Nothing is left after Ctrl-C.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.epilog = _EPILOG
    parser.set_defaults(rest="targets")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="what to serve")
    port: dict[str, Any] = {"type": port_number, "metavar": "PORT"}
    parser.add_argument("--http", default=_HTTP, help="HTTP gateway (8080)", **port)
    parser.add_argument("--nats", help="embedded NATS server (4222)", **port)
    parser.add_argument("--grpc", help="gRPC gateway (none)", **port)
    parser.add_argument("--thrift", help="Thrift gateway (none)", **port)
    parser.add_argument("--mcp", help="MCP gateway (none)", **port)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KIND.NAME=VALUE",
        help="an option of a gateway, as in kitmsg gateway KIND --help; may be repeated",
    )
    parser.add_argument("--no-http", action="store_true", help="no HTTP gateway")
    parser.add_argument(
        "--no-reload", action="store_true", help="take no notice of changed files"
    )
    add_flags(parser.add_argument_group("logs, metrics, traces"), _LOGS)
    add_flags(parser.add_argument_group("events"), _STORES)


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C; returns the exit code."""
    from kitmsg import logs
    from kitmsg.worker.pushing import check_metrics
    from kitmsg.worker.relaying import check_outbox

    with usage():
        settings = load_settings(vars(options))
        targets = tuple(options.targets) or settings.services
        paths = _watched(targets)
        check_metrics(settings)
        check_outbox(settings)
        if options.set:  # what is wrong is said before anything starts
            _check_options(options.set)
    if not targets:
        raise UsageError("nothing to serve: write kitmsg dev greeter.py")
    settings = _signed(dataclasses.replace(settings, services=targets))
    logs.set_up(**settings.logging())
    if settings.log_level == "info":
        for part in ("kitmsg_gateways", "kitmsg.bus"):  # the table says it
            logging.getLogger(part).setLevel(logging.WARNING)
    return asyncio.run(_Dev(options, settings, paths).run())


def _signed(settings: Settings) -> Settings:
    """Return settings with a key pair of this run, where they have none.

    So services know here, as later, whom the gateways let in.
    """
    if settings.signing_key or settings.trusted_keys:
        return settings
    from kitmsg.auth.ed25519 import SigningKey

    try:
        key = SigningKey.new()
    except FailedPrecondition:  # nobody can be let in without the library either
        return settings
    os.environ |= {_SIGNING: key.seed, _TRUSTED: key.public}  # the worker inherits it
    return dataclasses.replace(
        settings, signing_key=f"env:{_SIGNING}", trusted_keys=(f"env:{_TRUSTED}",)
    )


def _watched(texts: tuple[str, ...]) -> list[Path]:
    """Return the folders that targets are in, refusing those that are not there."""
    from kitmsg.worker.targets import locate, parse_target

    paths: dict[Path, None] = {}
    for text in texts:
        place = locate(parse_target(text))
        if place is not None:
            paths[place if place.is_dir() else place.parent] = None
    return list(paths)


class _Dev:
    """One run of the verb."""

    def __init__(
        self, options: argparse.Namespace, settings: Settings, paths: list[Path]
    ) -> None:
        self._options = options
        self._paths = paths
        self._settings = dataclasses.replace(
            settings,
            makes_streams=True,
            workers=1,
            trace_replies=True,
            drain_timeout=(
                _DRAIN_SECONDS
                if settings.drain_timeout is None
                else settings.drain_timeout
            ),
        )
        self._reloads = not options.no_reload and _can_reload()
        self._changes: Changes | None = None
        self._loaded: set[str] = set()  # folders of modules, until there is `_changes`
        self._end = asyncio.Event()
        self._has_table = False
        self._has_own_bus = False
        self._code = 0
        self._started = time.time()

    async def run(self) -> int:
        from kitmsg.worker.parent import on_signals
        from kitmsg.worker.supervisor import Supervisor

        async with contextlib.AsyncExitStack() as stack:
            embedded = await stack.enter_async_context(self._bus())
            supervisor = Supervisor(
                self._settings.services,
                self._settings,
                is_patient=self._reloads,
                on_modules=self._note_modules if self._reloads else None,
            )
            on_signals(self._end.set, supervisor.kill)
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, self._end.set)
            keeper = asyncio.create_task(supervisor.run())
            stack.push_async_callback(_stopped, supervisor, keeper)
            await asyncio.sleep(0.01)  # the worker's process starts beside what follows
            kit, urls = await stack.enter_async_context(self._edge(supervisor))
            watcher = asyncio.create_task(self._watch(supervisor, kit, urls, embedded))
            stack.callback(watcher.cancel)
            ended = asyncio.create_task(self._end.wait())
            await asyncio.wait(
                (ended, keeper, watcher), return_when=asyncio.FIRST_COMPLETED
            )
            ended.cancel()
            if watcher.done():
                await watcher
            # It ends by itself when nothing can start and no change may help.
            self._code = keeper.result() if keeper.done() else 0
        return self._code

    def _note_modules(self, folders: list[str]) -> None:
        self._loaded.update(folders)
        if self._changes is not None:
            self._changes.note(folders)

    @contextlib.asynccontextmanager
    async def _bus(self) -> AsyncIterator[EmbeddedServer | None]:
        """Start a server of our own, unless NATS_URL names one."""
        wanted = self._options.nats
        if wanted is None and os.environ.get("NATS_URL"):
            _say("the bus is the one that NATS_URL names; no server is started")
            yield None
            return
        from kitmsg.bus.embedded import EmbeddedServer

        self._has_own_bus = True
        port = _port(_NATS if wanted is None else wanted, "NATS")
        async with EmbeddedServer(port=port) as server:
            self._settings = dataclasses.replace(self._settings, nats_url=server.url)
            yield server

    @contextlib.asynccontextmanager
    async def _edge(
        self, supervisor: Supervisor
    ) -> AsyncIterator[tuple[Any, dict[str, str]]]:
        """Connect, and open the gateways; gives the kit and their addresses by title."""
        from kitmsg.cli.remote import connected
        from kitmsg.worker.plugins import GATEWAYS, title
        from kitmsg.worker.pushing import PushLoops, counted
        from kitmsg.worker.traces import set_up_traces

        set_up_traces(self._settings, "kitmsg-gateway")
        wanted = {kind: getattr(self._options, kind) for kind in _GATEWAYS}
        if self._options.no_http:
            wanted["http"] = None
        async with (
            self._told(connected(self._settings)) as kit,
            contextlib.AsyncExitStack() as stack,
        ):
            urls = {}
            for kind, number in wanted.items():
                if number is None:
                    continue
                gateway = GATEWAYS.load(kind)
                options = _options(gateway, kind, self._options.set)
                key, audience = self._settings.signing_key, self._settings.audience
                if not options.signing_key:
                    options = dataclasses.replace(
                        options, signing_key=key, audience=audience
                    )
                shown = title(gateway, kind)
                port = _port(number, shown)
                server = await gateway.serve(kit, options, port=port)
                pushed = PushLoops(self._settings, counted(server, kit), process=kind)
                stack.push_async_callback(pushed.close)  # after the gateway's end
                stack.push_async_callback(server.stop)
                if hasattr(server, "catalogue"):
                    server.catalogue.starting = lambda: _starting(supervisor)
                urls[shown] = server.url
            yield kit, urls

    @contextlib.asynccontextmanager
    async def _told(
        self, connecting: contextlib.AbstractAsyncContextManager[Kit]
    ) -> AsyncIterator[Kit]:
        """Connect; where NATS_URL names a server that is not there, say what to do."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                kit = await stack.enter_async_context(connecting)
            except Unavailable as exc:
                if self._has_own_bus:
                    raise
                raise Unavailable(
                    f"NATS_URL is set, and nothing answers there: {exc}. Unset it, and"
                    " kitmsg dev starts a server of its own"
                ) from exc
            yield kit

    async def _watch(
        self,
        supervisor: Supervisor,
        kit: Any,
        urls: dict[str, str],
        embedded: EmbeddedServer | None,
    ) -> None:
        """Show the table once a worker serves, and replace it after each change."""
        show = self._show(kit, urls, embedded)
        if await supervisor.wait_ready():
            await show()
        elif not supervisor.is_stopping:
            _say(paint("waiting for a change that helps", "33"))
        if self._reloads:
            await self._follow(supervisor, show)
        await self._end.wait()

    async def _follow(
        self, supervisor: Supervisor, show: Callable[[], Awaitable[None]]
    ) -> None:
        """Replace the worker after each change."""
        last: list[object] = []

        async def replace() -> None:
            is_replaced = await supervisor.reload()
            if last[-1] is not asyncio.current_task():
                return  # a later change has overtaken this one
            if is_replaced:
                _say(paint("the new worker serves", "32"))
                if not self._has_table:
                    await show()
            elif supervisor.children and supervisor.children[0].is_ready:
                _say(paint("the old worker goes on", "33"))

        changes = self._changes = Changes(self._paths, self._started)
        changes.note(self._loaded)
        try:
            async with asyncio.TaskGroup() as tasks:
                async for names in changes:
                    _say(paint(f"changed: {', '.join(names)}", "36"))
                    last[:] = [tasks.create_task(replace())]
        finally:
            changes.close()

    def _show(
        self, kit: Any, urls: dict[str, str], embedded: EmbeddedServer | None
    ) -> Callable[[], Awaitable[None]]:
        async def show() -> None:
            from kitmsg.cli.banner import banner

            self._has_table = True
            lines = await banner(
                kit,
                urls=urls,
                nats=self._settings.nats_url,
                is_embedded=embedded is not None,
                folders=self._followed(),
            )
            print(lines, flush=True)

        return show

    def _followed(self) -> list[str]:
        """Return the folders to show as followed: those of the targets, and others' tops."""
        if not self._reloads:
            return []
        every = {*self._paths, *map(Path, self._loaded)}
        return relative(f for f in every if not any(p in every for p in f.parents))


def _can_reload() -> bool:
    """Tell whether changes can be followed, and say so if not."""
    try:
        can_follow()
    except FailedPrecondition as exc:
        _say(paint(str(exc), "33"))
        return False
    return True


def _check_options(given: Sequence[str]) -> None:
    """Refuse options of gateways that are not understood.

    Raises:
        UsageError: They are not; the sentence says how they are written.
    """
    from kitmsg.worker.plugins import GATEWAYS

    for text in given:
        kind = text.partition(".")[0]
        if "=" not in text or kind not in _GATEWAYS:
            raise UsageError(
                f"--set {text}: write KIND.NAME=VALUE, such as http.cors-origins=*;"
                f" KIND is one of {', '.join(_GATEWAYS)}"
            )
        try:
            _options(GATEWAYS.load(kind), kind, given)
        except ValueError as exc:
            raise UsageError(f"--set {text}: {exc}") from exc


def _options(gateway: Any, kind: str, given: Sequence[str]) -> Any:
    """Return the options of a gateway: ``--set KIND.NAME=VALUE``, and a short drain.

    Raises:
        ValueError: One does not fit.
    """
    cls = gateway.GatewayOptions
    values: dict[str, Any] = {"drain_timeout": _DRAIN_SECONDS}
    for text in given:
        name, _, value = text.partition("=")
        of, _, field = name.partition(".")
        if of == kind:
            read_option(cls, field.replace("-", "_"), value, values)
    return cls(**values)


def _starting(supervisor: Supervisor) -> str:
    """Return what to say of services that are not there; "" once a worker serves."""
    is_serving = any(child.is_ready for child in supervisor.children)
    return "" if is_serving or supervisor.is_stopping else "the worker is starting"


async def _stopped(supervisor: Supervisor, keeper: asyncio.Task[int]) -> None:
    supervisor.stop()
    await keeper


def _port(wanted: int, what: str) -> int:
    with usage():
        port = free_port(wanted) if wanted else 0
    if port != wanted:
        _say(f"port {wanted} is taken: {what} uses {port}")
    return port


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
