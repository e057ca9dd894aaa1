"""The docs page: one file with its own styles and script, shipped with the package.

It reads ``/openapi.json`` and needs nothing from outside; its content policy lets it run
exactly its own script and style, and talk to this gateway only.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import Final

__all__ = ["HEADERS", "PAGE"]

PAGE: Final = files("kitmsg_gateways.http").joinpath("static/docs.html").read_bytes()
"""The page."""


def _hashes(tag: str) -> str:
    """Return the sources that a policy names for the page's inline `tag` elements."""
    pattern = rf"<{tag}>(.*?)</{tag}>".encode()
    digests = (
        hashlib.sha256(text).digest() for text in re.findall(pattern, PAGE, re.DOTALL)
    )
    return " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests)


HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {_hashes('script')};"
        f" style-src {_hashes('style')}; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""Response headers of the page."""
