"""One call of a tool: arguments in, a result that a model can read out."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import mcp_types as types
import msgspec

from kitmsg_gateways.edge.plain import PlainCall, PlainEndpoint
from kitmsg_gateways.edge.visit import Visit

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext as Ctx

    from kitmsg_gateways.edge.calls import Callers
    from kitmsg_gateways.mcp.options import GatewayOptions

__all__ = ["KEY", "TIMEOUT", "call", "visit_of"]

TIMEOUT: Final = "kitmsg/timeout"
KEY: Final = "kitmsg/idempotency-key"
"""In the ``_meta`` of a call: seconds that it may take, and what all its tries have alike."""

_MOST_SHOWN: Final = 4096  # of an item, in a report of progress


def visit_of(ctx: Ctx[Any, Any]) -> Visit:
    """Return who calls; over standard input, who started us."""
    return ctx.request.scope["visit"] if ctx.request else Visit()


async def call(
    served: PlainEndpoint,
    params: types.CallToolRequestParams,
    ctx: Ctx[Any, Any],
    visit: Visit,
    callers: Callers,
    options: GatewayOptions,
) -> types.CallToolResult:
    """Return the result of a call; items of a stream are reported as progress too.

    Raises:
        KitError: The call failed, or the service answered with an error.
    """

    async def tell(count: int, item: bytes) -> None:
        shown = item[:_MOST_SHOWN].decode(errors="replace")
        await ctx.session.report_progress(count, message=shown)

    said: dict[str, Any] = {**(ctx.meta or {})}
    meta, asked = {**said, "idempotency-key": said.get(KEY)}, said.get(TIMEOUT)
    plain = PlainCall(served, params.arguments or {}, asked, visit, meta, options, tell)
    found = await plain.ask(callers)
    if isinstance(found, bytes):
        blob, uri = base64.b64encode(found).decode(), f"kitmsg:{served.name}"
        resource = types.BlobResourceContents(uri=uri, blob=blob)
        return types.CallToolResult(content=[types.EmbeddedResource(resource=resource)])
    text = types.TextContent(text=msgspec.json.encode(found).decode())
    wrapped = served.wrapped(found)
    return types.CallToolResult(content=[text], structured_content=wrapped)
