"""What all middlewares promise together."""

from __future__ import annotations

import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry

from kitmsg import middleware
from kitmsg.context import Context
from kitmsg.endpoint import Middleware, chain
from kitmsg.errors import NotFound

ALL: dict[str, Middleware] = {
    "breaker": middleware.breaker(),
    "bulkhead": middleware.bulkhead(8),
    "log": middleware.log(),
    "metrics": middleware.metrics(CollectorRegistry()),
    "rate_limit": middleware.rate_limit(1000),
    "retry": middleware.retry(),
    "timeout": middleware.timeout(1.0),
}


async def parse(_ctx: Context, request: str) -> int:
    if not request:
        raise NotFound("nothing to parse")
    return int(request)


@pytest.mark.parametrize("name", ALL)
async def test_passes_request_response_and_error_unchanged(name: str) -> None:
    """Around a healthy endpoint a middleware is not noticed."""
    wrapped = ALL[name](parse)
    assert await wrapped(Context(), "7") == 7
    with pytest.raises(NotFound, match="nothing to parse") as caught:
        await wrapped(Context(), "")
    assert not hasattr(caught.value, "__notes__")


async def test_all_of_them_compose() -> None:
    """A chain of every middleware still answers."""
    assert await chain(*ALL.values())(parse)(Context(), "7") == 7


def test_importing_them_imports_no_extra() -> None:
    """Whoever does not use the breaker or the metrics does not load their packages."""
    code = (
        "import sys, kitmsg.middleware; "
        "print({'aiobreaker', 'prometheus_client'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "set()"
