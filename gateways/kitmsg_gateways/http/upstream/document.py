"""Loads an OpenAPI document from a file or a URL: JSON or YAML."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from kitmsg_gateways.http.upstream.operation import HttpRequest

if TYPE_CHECKING:
    from kitmsg_gateways.http.upstream.options import UpstreamOptions

__all__ = ["OpenApi", "load_document", "parse"]

_SECONDS: Final = 30.0
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class OpenApi:
    """A document of OpenAPI 3.0 or 3.1, parsed."""

    document: Mapping[str, Any]


async def load_document(source: str, options: UpstreamOptions) -> Mapping[str, Any]:
    """Return the document at a path or a URL.

    Args:
        source: A path, or ``http(s)://...``.
        options: Limits and headers for fetching it.

    Raises:
        ValueError: It is not there, or is no document.
        Unavailable: Its server cannot be reached.
    """
    if source.startswith(("http://", "https://")):
        return parse(await _fetched(source, options), source)
    try:
        data = await asyncio.to_thread(Path(source).read_bytes)
    except OSError as exc:
        raise ValueError(f"cannot read {source}: {exc.strerror}") from exc
    return parse(data, source)


async def _fetched(url: str, options: UpstreamOptions) -> bytes:
    from kitmsg_gateways.http import package

    package.load()
    from kitmsg.errors import Unavailable
    from kitmsg_gateways.http.upstream.client import HttpClient
    from kitmsg_gateways.upstream.roundrobin import CannotConnect

    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    client = HttpClient("the document's server", options)
    try:
        reply = await client.fetch(
            f"{parts.scheme}://{parts.netloc}", HttpRequest("GET", target, {}), _SECONDS
        )
    except CannotConnect as exc:
        raise Unavailable(f"cannot fetch {url}: {exc}") from exc
    finally:
        await client.close()
    if reply.status != _OK:
        raise ValueError(f"cannot fetch {url}: the server answered {reply.status}")
    return reply.body


def parse(data: bytes, source: str) -> Mapping[str, Any]:
    """Return a document, parsed.

    Args:
        data: JSON, or YAML where PyYAML is installed.
        source: Where it is from, for messages.

    Raises:
        ValueError: It is neither, or no object.
    """
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        found = _yaml(data, source, exc)
    if not isinstance(found, Mapping):
        raise ValueError(  # noqa: TRY004  the fault is in the document, not the call
            f"{source} is no OpenAPI document: it is no object"
        )
    return found


def _yaml(data: bytes, source: str, problem: Exception) -> Any:
    if data.lstrip()[:1] in (b"{", b"["):
        raise ValueError(f"{source} is not valid JSON: {problem}") from problem
    try:
        import yaml
    except ImportError as exc:
        raise ValueError(f"{source} is not JSON; for YAML: pip install pyyaml") from exc
    try:
        return yaml.safe_load(data)
    except (yaml.YAMLError, RecursionError, ValueError) as exc:
        raise ValueError(f"{source} is neither JSON nor YAML: {exc}") from exc
