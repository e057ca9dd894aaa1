"""The docs page is whole in itself."""

from __future__ import annotations

import base64
import hashlib
import re


async def test_the_docs_page_needs_nothing_from_outside(memory_bus, start):
    """No address of another host in it, and a policy that lets none in."""
    call = await start(memory_bus)
    response, page = await call("GET", "/docs")
    text = page.decode()
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?:https?:)?//", text)
    assert "://" not in text
    assert "@import" not in text
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "connect-src 'self'" in policy


async def test_the_docs_page_puts_nothing_in_as_markup(memory_bus, start):
    """What services say is text, so they cannot run anything in a reader's browser."""
    call = await start(memory_bus)
    _, page = await call("GET", "/docs")
    for risky in (
        b"innerHTML",
        b"outerHTML",
        b"insertAdjacent",
        b"document.write",
        b"eval(",
    ):
        assert risky not in page
    assert b'style="' not in page  # the policy would not let it


async def test_the_policy_names_the_pages_own_script_and_style(memory_bus, start):
    """By their digests, so that nothing else runs."""
    call = await start(memory_bus)
    response, page = await call("GET", "/docs")
    policy = response.headers["Content-Security-Policy"]
    for tag in (b"script", b"style"):
        (text,) = re.findall(b"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
        assert f"{tag.decode()}-src 'sha256-{digest}'" in policy
