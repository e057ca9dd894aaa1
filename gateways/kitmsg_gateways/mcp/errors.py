"""Errors as results: text for a model, and the facts for programs in ``_meta``."""

from __future__ import annotations

from typing import Final

import msgspec
from mcp_types import CallToolResult, TextContent

from kitmsg.codec import JSON
from kitmsg.errors import KitError
from kitmsg_gateways.edge.answers import error_facts

__all__ = ["ERROR", "failure"]

ERROR: Final = "kitmsg/error"  # an error's facts, in the ``_meta`` of a result


def failure(error: KitError) -> CallToolResult:
    """Return the result that tells of an error; structured content is for good ones."""
    facts = error_facts(error, JSON)
    more = {name: facts[name] for name in facts if name not in ("code", "message")}
    text = f"{facts['code']}: {facts['message']}\n{msgspec.json.encode(more).decode()}"
    content = TextContent(text=text)
    return CallToolResult(content=[content], is_error=True, _meta={ERROR: facts})
