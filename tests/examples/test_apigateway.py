"""The API gateway in front of services in a real Consul."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from examples.apigateway import gateway
from tests.discovery.systems.consul import Consul

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def consul() -> Iterator[str]:
    """Address of an agent."""
    agent = Consul()
    yield f"consul://127.0.0.1:{agent.port}"
    agent.program.kill()


async def test_it_prints_what_its_docstring_promises(
    consul: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both services are found in Consul, over gRPC and over HTTP."""
    await gateway.main(consul)
    assert gateway.__doc__ is not None
    promised = gateway.__doc__.partition("It prints\n\n")[2]
    lines = [line.removeprefix("    ") for line in promised.splitlines()]
    assert capsys.readouterr().out.splitlines() == lines
