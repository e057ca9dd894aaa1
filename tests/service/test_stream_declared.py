"""Streaming endpoints that cannot be declared are refused in words."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from kitmsg import (
    Service,
    endpoint,
)


def _blocking() -> None:
    class Wrong(Service):
        @endpoint
        def numbers(self) -> Iterator[int]:
            yield 1


def _untold() -> None:
    class Wrong(Service):
        @endpoint
        async def numbers(self, xs: AsyncIterator) -> None:  # type: ignore[type-arg]
            ...


def _two() -> None:
    class Wrong(Service):
        @endpoint
        async def numbers(
            self, a: AsyncIterator[int], b: AsyncIterator[int]
        ) -> None: ...


def _odd() -> None:
    class Wrong(Service):
        @endpoint
        async def numbers(self) -> AsyncIterator[object]:
            yield object()


def _gokit() -> None:
    class Wrong(Service):
        @endpoint(wire="gokit")
        async def numbers(self) -> AsyncIterator[int]:
            yield 1


def _unyielding() -> None:
    class Wrong(Service):
        @endpoint
        async def numbers(self) -> int:  # type: ignore[misc]
            yield 1


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (_blocking, "blocking generator"),
        (_untold, "does not say of what"),
        (_two, "second stream"),
        (_odd, "no wire form"),
        (_gokit, "Go kit has no streams"),
        (_unyielding, "yields, so its result is AsyncIterator"),
    ],
)
def test_what_cannot_be_declared(make: Any, match: str) -> None:
    """A mistake is told when the class is defined."""
    with pytest.raises(TypeError, match=match):
        make()
