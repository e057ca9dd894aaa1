"""The names of JSON-RPC methods, and params by position.

Both come down to an endpoint and one object, which is what travels on the bus.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

import msgspec

from kitmsg_gateways.http import jsonrpc
from kitmsg_gateways.http.jsonrpc import RpcError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kitmsg_gateways.http.mount import Mounted, Table

__all__ = ["Methods", "by_name"]

_MAX_HINT_CHARS: Final = 120
_positions = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Methods:
    """The endpoints of a table by the names that methods have.

    Args:
        table: What is mounted.
        names: Methods of other names, with the endpoints they mean.
    """

    def __init__(self, table: Table, names: Mapping[str, str]) -> None:
        self.table = table
        self._names = names
        self._full = {f"{one.service}.{one.name}": one for one in table.endpoints}
        self._bare: dict[str, list[Mounted]] = {}
        for one in table.endpoints:
            self._bare.setdefault(one.name, []).append(one)

    def find(self, method: str, service: str) -> Mounted:
        """Return the endpoint that a method names.

        Args:
            method: Its name.
            service: Whose endpoints; "" for all.

        Raises:
            RpcError: There is none, there are several, or it streams.
        """
        name = f"{service}.{method}" if service else self._names.get(method, method)
        found = self._full.get(name)
        several = [] if service else self._bare.get(name, [])
        if found is None and len(several) == 1:
            (found,) = several
        if found is None:
            known = [f"{one.service}.{one.name}" for one in several]
            near = difflib.get_close_matches(name[:_MAX_HINT_CHARS], self._full, n=1)
            raise _not_found(method, known or near)
        if found.stream:
            raise RpcError(
                jsonrpc.METHOD_NOT_FOUND,
                f"Method {method[:_MAX_HINT_CHARS]} streams, which JSON-RPC cannot do.",
            )
        return found


def _not_found(method: str, near: list[str]) -> RpcError:
    # Go kit's words.
    text = f"Method {method[:_MAX_HINT_CHARS]} was not found."
    hint = {"did_you_mean": near} if near else None
    return RpcError(jsonrpc.METHOD_NOT_FOUND, text, hint)


def by_name(params: bytes, mounted: Mounted) -> bytes:
    """Return params as an object: by position they are in the order of the fields.

    Raises:
        RpcError: There are more than there are fields, or those are not known.
    """
    if not params.startswith(b"["):
        return params
    values = _positions(params)
    known = mounted.parameters
    names = [name for name in known.properties if name not in known.headers]
    if len(values) > len(names):
        takes = ", ".join(names) or "none"
        text = f"{len(values)} params by position; {mounted.service}.{mounted.name}"
        text += f" takes {takes}" if mounted.schema else " takes them by name"
        raise RpcError(jsonrpc.INVALID_PARAMS, text)
    return msgspec.json.encode(dict(zip(names, values, strict=False)))
