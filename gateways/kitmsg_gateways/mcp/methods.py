"""Endpoints as tools: names, schemas, descriptions and hints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mcp_types import ListToolsResult, Tool, ToolAnnotations, methods
from mcp_types.version import LATEST_HANDSHAKE_VERSION

from kitmsg_gateways.edge.names import flat_names
from kitmsg_gateways.edge.plain import PlainEndpoint

if TYPE_CHECKING:
    from kitmsg.discovery.catalog import Catalog, CatalogEndpoint
    from kitmsg_gateways.mcp.options import GatewayOptions

__all__ = ["Table", "build"]

_MOST_TEXT: Final = 8192


@dataclass(frozen=True, slots=True)
class Table:
    """The tools at one time.

    Attributes:
        tools: As clients see them, by name.
        served: What is behind them, by name.
        refused: Sentences about endpoints that are no tools.
        instructions: What a model should know.
    """

    tools: dict[str, Tool] = field(default_factory=dict)
    served: dict[str, PlainEndpoint] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    instructions: str = ""

    def endpoint(self, name: str) -> CatalogEndpoint | None:
        """Return the endpoint of a tool; None without."""
        return self.served[name].endpoint if name in self.served else None


def build(found: Catalog, options: GatewayOptions, before: Table) -> Table:
    """Return the tools for the endpoints on a bus; names in `before` stay whose they are."""
    had = {each.endpoint.subject for each in before.served.values()}
    named, refused = flat_names(found.endpoints, options.separator, options.tools, had)
    served = {name: PlainEndpoint.of(each) for name, each in named.items()}
    about = [f"- {name}: {info.description}" for name, info in found.services.items()]
    return Table(
        {name: _tool(name, each) for name, each in served.items()},
        served,
        (*found.refused, *refused),
        "\n".join([options.instructions, "Services:", *about]).strip()[:_MOST_TEXT],
    )


def _tool(name: str, served: PlainEndpoint) -> Tool:
    endpoint = served.endpoint
    method = endpoint.http.partition(" ")[0]
    is_safe = endpoint.is_idempotent or method in ("GET", "PUT", "DELETE")
    tool = Tool(
        name=name,
        title=served.name,
        description=endpoint.description or None,
        input_schema=served.request,
        output_schema=served.response,
        annotations=ToolAnnotations(
            read_only_hint=method == "GET" or None, idempotent_hint=is_safe or None
        ),
    )
    listing = ListToolsResult(tools=[tool])
    try:  # a schema of a stranger's might spoil the whole list
        listed = listing.model_dump(by_alias=True, mode="json", exclude_none=True)
        methods.serialize_server_result("tools/list", LATEST_HANDSHAKE_VERSION, listed)
    except (ValueError, RecursionError):
        return Tool(name=name, title=served.name, input_schema={"type": "object"})
    return tool
