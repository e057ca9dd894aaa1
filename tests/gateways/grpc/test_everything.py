"""Random services: out through an upstream, in through a gateway, and back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from kitmsg import Service, endpoint
from kitmsg_gateways.grpc.upstream import Upstream
from tests.anytypes import Case, cases

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import kitmsg
    from tests.gateways.grpc.conftest import Outside


def service_of(number: int, several: list[Case]) -> type[Service]:
    """Return a service whose endpoints give back what they take."""
    body: dict[str, Any] = {"name": f"any{number}"}
    for at, case in enumerate(several):

        async def echo(self: Any, given: Any) -> Any:
            return given

        echo.__name__ = f"echo_{at}"
        type_ = case.signature.response
        echo.__annotations__ = {"given": type_, "return": type_}
        body[echo.__name__] = endpoint(echo)
    return type(f"Any{number}", (Service,), body)


async def test_any_service_is_served_and_called(
    hub: kitmsg.Kit,
    start: Callable[..., Any],
    until: Callable[[Callable[[], object]], Coroutine[None, None, None]],
) -> None:
    """100 endpoints with random types: each value arrives and comes back equal."""
    outside: Outside = await start(hub)
    loop = asyncio.get_running_loop()
    numbers = iter(range(1000))

    async def go(several: list[Case]) -> None:
        cls = service_of(next(numbers), several)
        running = await hub.serve(cls())
        await until(
            lambda: (
                len(several)
                == sum(
                    method.endpoint.service == cls.name
                    for method in outside.server.table.methods.values()
                )
            )
        )
        async with Upstream(outside.server.address, cls) as upstream:
            client: Any = upstream.client(cls)
            for at, case in enumerate(several):
                for value in case.values:
                    assert await getattr(client, f"echo_{at}")(value) == value
        await running.drain(0.0)

    @settings(
        max_examples=20,
        derandomize=True,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.large_base_example,
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
        ],
    )
    @given(several=st.lists(cases(), min_size=5, max_size=5))
    def check(several: list[Case]) -> None:
        asyncio.run_coroutine_threadsafe(go(several), loop).result(50)

    await asyncio.to_thread(check)
    assert outside.server.table.refused == []
