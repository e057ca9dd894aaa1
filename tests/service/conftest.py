"""A service that streams, on the bus in memory."""

import pytest

from kitmsg import (
    Kit,
)
from tests.service.meter import Meter


@pytest.fixture
async def meter(kit: Kit) -> Meter:
    """A service on the bus in memory, and itself to look into."""
    service = Meter()
    await kit.serve(service)
    return service
