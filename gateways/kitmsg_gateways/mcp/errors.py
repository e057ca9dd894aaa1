"""Errors as results: text for a model, and the facts for programs in ``_meta``."""

from __future__ import annotations

from typing import Final

import msgspec
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolResult, TextContent

from kitmsg.codec import JSON
from kitmsg.errors import KitError, NotFound
from kitmsg_gateways.edge.answers import error_facts

__all__ = ["ERROR", "failure", "missing"]

ERROR: Final = "kitmsg/error"
"""Key of an error's facts in the ``_meta`` of a result."""


def failure(error: KitError) -> CallToolResult:
    """Return the result that tells of an error; structured content is for good ones."""
    facts = error_facts(error, JSON)
    more = {name: facts[name] for name in facts if name not in ("code", "message")}
    text = f"{facts['code']}: {facts['message']}\n{msgspec.json.encode(more).decode()}"
    content = TextContent(text=text)
    return CallToolResult(content=[content], is_error=True, _meta={ERROR: facts})


def missing(error: KitError) -> CallToolResult:
    """Return the result of a call to a tool that will be back.

    Raises:
        MCPError: There is none of that name.
    """
    if isinstance(error, NotFound):
        raise MCPError(INVALID_PARAMS, str(error))
    return failure(error)
