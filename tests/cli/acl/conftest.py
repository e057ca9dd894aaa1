"""A server that knows the users of all examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kitmsg.bus.embedded import EmbeddedServer
from tests.cli.acl.users import USERS, administered, configured

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """A server with the users of all examples, and nothing else."""
    config = administered(configured(list(USERS.values())))
    with EmbeddedServer(config=config) as made:
        yield made
