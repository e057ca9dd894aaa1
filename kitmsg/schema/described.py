"""A signature that JSON Schemas give, where there is no method to read.

What a server elsewhere takes and gives is known from its OpenAPI document, proto or IDL.
Requests and responses are plain objects then: dicts, lists, text, numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any

from kitmsg.schema.calls import Shape
from kitmsg.schema.signatures import Signature

__all__ = ["Described", "described"]

_SHAPE = Shape(
    names=("request",),
    is_single=True,
    context="context",
    context_at=0,
    by_name=False,
    is_async=True,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Described(Signature):
    """What an endpoint takes and gives, as schemas say; see `described`."""

    given: tuple[dict[str, Any], dict[str, Any]] = ({}, {})

    @functools.cached_property
    def _schemas(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.given


def described(
    name: str,
    *,
    owner: str,
    request: dict[str, Any],
    response: dict[str, Any],
    doc: str = "",
) -> Signature:
    """Return the signature of an endpoint that takes one plain object.

    Args:
        name: Name of the endpoint.
        owner: Name of the service, for messages.
        request: JSON Schema of the request, an object.
        response: JSON Schema of the response.
        doc: What the endpoint does, in a sentence.
    """
    return Described(
        owner=owner,
        name=name,
        doc=doc,
        request=dict[str, Any],
        response=Any,
        parameters=_SHAPE.names,
        is_async=True,
        is_single=True,
        context_parameter=_SHAPE.context,
        keyword_only=False,
        unknown_fields="ignore",
        _python=inspect.Signature(
            [inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
        ),
        _shape=_SHAPE,
        given=(request, response),
    )
