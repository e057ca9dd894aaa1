"""The bounded queue and its workers, alone: no bus, no messages, time that jumps."""

from __future__ import annotations

from typing import Any

import pytest

from kitmsg.testing import VirtualTimeLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run on asyncio, in debug mode, in virtual time."""
    return "asyncio", {"debug": True, "loop_factory": VirtualTimeLoop}
