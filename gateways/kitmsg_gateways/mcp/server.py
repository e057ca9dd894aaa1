"""`GatewayServer`: MCP sessions on the edge's lifecycle, over HTTP or standard input."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, ClassVar

import mcp_types as types
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser as User
from mcp.server.auth.provider import AccessToken
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager as Sessions
from mcp.server.subscriptions import InMemorySubscriptionBus as News, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ToolsListChanged

import kitmsg
from kitmsg.errors import NotFound
from kitmsg_gateways.edge.named import Spans
from kitmsg_gateways.edge.stdin import Stdin, serve_stdin
from kitmsg_gateways.edge.web import WebGateway, quieten
from kitmsg_gateways.mcp.call import call, visit_of
from kitmsg_gateways.mcp.errors import failure
from kitmsg_gateways.mcp.methods import Table, build
from kitmsg_gateways.mcp.options import GatewayOptions

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from mcp.server.connection import Connection
    from mcp.server.context import ServerRequestContext as Ctx
    from mcp.server.models import InitializationOptions
    from starlette.types import Receive, Scope, Send

    from kitmsg.bus import Bus
    from kitmsg.discovery.catalog import Catalog

__all__ = ["GatewayServer"]


class _Server(Server[Any]):
    def create_initialization_options(self, *_: Any) -> InitializationOptions:
        changes = NotificationOptions(tools_changed=True)
        return super().create_initialization_options(changes)


class GatewayServer(WebGateway[GatewayOptions, Table]):
    """One MCP gateway on a bus; arguments and errors as `WebGateway`."""

    kind: ClassVar[str] = "mcp"
    title: ClassVar[str] = "MCP"
    path: ClassVar[str] = "/mcp"
    exposed: ClassVar[tuple[str, ...]] = ("Mcp-Session-Id", *WebGateway.exposed)

    def __init__(
        self, bus: Bus, options: GatewayOptions, sockets: Sequence[socket.socket] = ()
    ) -> None:
        super().__init__(bus, options, Table(), sockets)
        quieten("mcp")  # it logs each session, with its id
        self._news = News()
        self._listeners = ListenHandler(self._news)
        self._mcp = _Server(
            options.name,
            version=kitmsg.__version__,
            on_list_tools=self._list,
            on_call_tool=self._call,
            on_subscriptions_listen=self._listeners,
        )
        self._mcp.middleware[:] = [self._notice]  # its own spans adopt any trace
        self._sessions = Sessions(
            self._mcp,
            session_idle_timeout=options.session_timeout,
            max_sessions=options.max_sessions,
            max_request_body_size=options.max_body_bytes,
        )
        self._spans = Spans("tools/call", "mcp.method.name", "gen_ai.tool.name")
        # Open sessions, whose clients hear of changes without asking.
        self._peers: set[Connection] = set()

    @classmethod
    def realm(cls, options: GatewayOptions) -> str:  # noqa: D102
        return options.name

    async def _list(self, *_: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=list(self.table.tools.values()))

    async def _call(
        self, ctx: Ctx[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        served, visit = self.table.served.get(params.name), visit_of(ctx)
        if served is None:
            error = self.missing(params.name, Table.endpoint, self.table.tools)
            if isinstance(error, NotFound):
                raise MCPError(types.INVALID_PARAMS, str(error))
            return failure(error)
        span = self._spans.begin(params.name, visit, ctx.meta)
        work = call(served, params, ctx, visit, self.callers, self.options)
        return await self.turns.run(served.name, visit, work, failure, span)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        who = scope["visit"].principal
        if who is not None:  # a session belongs to who began it
            names = {"client_id": who.method, "subject": who.name}
            scope["user"] = User(AccessToken(token="", scopes=[], **names))
        await self._sessions.handle_request(scope, receive, send)

    async def _notice(self, ctx: Ctx[Any, Any], call_next: Any) -> Any:
        """Remember a session while it lasts."""
        if ctx.method == "notifications/initialized":
            # The library has no other way to a session's own channel, and to its end.
            peer = ctx.session._connection  # noqa: SLF001
            self._peers.add(peer)
            peer.exit_stack.callback(self._peers.discard, peer)
        return await call_next(ctx)

    def _build(self, found: Catalog) -> Table:
        return build(found, self.options, self.table)

    def _served(self) -> int:
        return len(self.table.tools)

    def _changed(self, before: Table) -> None:
        self._mcp.instructions = self.table.instructions
        self._warn(self.table.refused, before.refused)
        if self.table.tools != before.tools:
            self._soon(self._tell())

    async def _tell(self) -> None:
        """Tell clients that the list of tools has changed."""
        await self._news.publish(ToolsListChanged())
        sent = (peer.send_tool_list_changed() for peer in self._peers)
        telling = [asyncio.wait_for(each, 5.0) for each in sent]
        await asyncio.gather(*telling, return_exceptions=True)

    def _lasting(self) -> AbstractAsyncContextManager[None]:
        if not self.options.stdio:
            return self._sessions.run()
        stdin: Any = Stdin(self.options.max_body_bytes)
        started = self._mcp.create_initialization_options()
        serve = functools.partial(self._mcp.run, initialization_options=started)
        return serve_stdin(stdin, stdio_server(stdin=stdin), serve, self.ended)

    def _finish(self) -> None:
        self._listeners.close()
