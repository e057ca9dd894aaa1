"""Every bus test runs on both event loops: their transports fail in different ways."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Run async tests on asyncio's loop and on uvloop's."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}
