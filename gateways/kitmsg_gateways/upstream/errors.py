"""Failures of a connection as errors."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from kitmsg.errors import DeadlineExceeded, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["connection_errors"]


@contextlib.contextmanager
def connection_errors(name: str, *broken: type[Exception]) -> Iterator[None]:
    """Make errors of what ends a call before its reply.

    Args:
        name: Of the upstream, for messages.
        broken: Exceptions of a connection that broke.

    Raises:
        DeadlineExceeded: Time ran out.
        Unavailable: The connection broke; the server may have done the work.
    """
    try:
        yield
    except TimeoutError as exc:
        raise DeadlineExceeded(f"{name}: the server did not answer in time") from exc
    except broken as exc:
        raise Unavailable(f"{name}: the connection to the server broke") from exc
