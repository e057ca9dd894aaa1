"""Failures of a connection as errors, and classes for the errors that a server declares."""

from __future__ import annotations

import contextlib
import types
from typing import TYPE_CHECKING, Any

from kitmsg.errors import BusinessError, Code, DeadlineExceeded, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["connection_errors", "error_class"]


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


def error_class(
    name: str,
    fields: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any],
    doc: str,
    code: Code = Code.UNKNOWN,
) -> type[BusinessError]:
    """Return the class of an error that a server declares.

    A typed client on the bus that has a class of this name and these fields raises it.

    Args:
        name: Of the class.
        fields: Types, by name; those without a default first.
        defaults: Of the fields that may be left out.
        doc: Docstring of the class.
        code: Its code.

    Raises:
        TypeError: A field has the name of what every error has.
        ValueError: The same.
    """
    body = {
        "__annotations__": dict(fields),
        "__doc__": doc,
        "__module__": __name__,
        "code": code,
        **defaults,
    }
    return types.new_class(
        name, (BusinessError,), exec_body=lambda names: names.update(body)
    )
