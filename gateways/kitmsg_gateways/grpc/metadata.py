"""Chosen metadata of a call as headers, and its request id.

Hot path.  Only keys named here or in the options cross, only once each, and only if they
are printable ASCII.  Bytes, under keys that end with ``-bin``, are base64 in a header.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, Final

from kitmsg import wire
from kitmsg_gateways.edge import calls
from kitmsg_gateways.edge.spans import TRACES, passing
from kitmsg_gateways.grpc.errors import REQUEST_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kitmsg_gateways.edge.calls import Callers
    from kitmsg_gateways.grpc.options import GatewayOptions

__all__ = ["Forwarding", "given_by"]

_KEY: Final = re.compile(r"[0-9a-z_.-]+")
_OURS: Final = ("kit-", "nats-", "grpc-", "content-", ":")


class Forwarding:
    """The metadata that is forwarded to services, and the headers it goes under.

    Args:
        options: Those of the gateway.

    Raises:
        ValueError: A key to forward is no key, or is the protocol's own.
    """

    def __init__(self, options: GatewayOptions) -> None:
        self._names = {name: name for name in passing(options.public)}
        self._names["idempotency-key"] = wire.IDEMPOTENCY_KEY
        if not options.public:
            ids = (REQUEST_ID, wire.REQUEST_ID.lower())
            self._names |= dict.fromkeys(ids, wire.REQUEST_ID)
            self._names[wire.IDEMPOTENCY_KEY.lower()] = wire.IDEMPOTENCY_KEY
        if options.forward_authorization:
            self._names["authorization"] = wire.AUTHORIZATION
        for key in options.forward_metadata:
            self._names[_forwardable(key)] = key

    def fields(self, given: Iterable[Any]) -> tuple[dict[str, str], bool]:
        """Return the headers of a call, and whether its request id was given.

        Args:
            given: Metadata of the call: pairs of key and value.

        Raises:
            InvalidArgument: ``authorization``, ``idempotency-key`` or a key of the user's
                is not printable ASCII, or came twice.
        """
        found = {wire.REQUEST_ID: ""}
        names = self._names
        for key, value in given:
            if key in names:
                _add(found, names[key], key, value)
        given_id = found[wire.REQUEST_ID]
        found[wire.REQUEST_ID] = calls.request_id(given_id)
        return found, found[wire.REQUEST_ID] == given_id


def given_by(callers: Callers, given: Iterable[Any]) -> Mapping[str, str] | None:
    """Return the metadata of a call that the gateway's rules go by.

    Raises:
        InvalidArgument: A key came more than once, or its value is not printable ASCII.
    """
    wanted = callers.headers
    found = [(key, _text(value)) for key, value in given if key in wanted]
    return callers.given(lambda name: [v for key, v in found if key == name])


def _text(value: str | bytes) -> str:
    # Bytes stand under keys that end with -bin.
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _add(fields: dict[str, str], name: str, key: str, value: str | bytes) -> None:
    value = _text(value)
    if name == wire.REQUEST_ID:
        fields[name] = value
    elif name in TRACES:
        if name not in fields:
            calls.add_trace(fields, name, [value])
    else:
        before = [fields[name]] if name in fields else []
        calls.add_header(fields, name, [*before, value], f"metadata {key}")


def _forwardable(key: str) -> str:
    lower = key.lower()
    if not _KEY.fullmatch(lower) or lower.startswith(_OURS) or lower == "authorization":
        raise ValueError(
            f"forward_metadata: {key!r} cannot be forwarded; name a key that is not the"
            " protocol's own (authorization has an option of its own)"
        )
    return lower
