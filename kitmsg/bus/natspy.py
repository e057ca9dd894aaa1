"""Every part of nats-py that is used here, private ones too: named once, checked at import.

A nats-py that lacks a part is refused at import.  One whose version was not tried with the
fast path (`kitmsg.bus.reader`) is read by its own reader instead; `is_tried` tells.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from typing import Any, Final

__all__ = [
    "PERMISSIONS_ERR",
    "VERSION",
    "Client",
    "Srv",
    "Subscription",
    "TcpTransport",
    "errors",
    "is_tried",
]


class _Later:
    """Stands for a module until somebody uses it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


# nats-py imports aiohttp where it finds it, for WebSocket addresses: a fifth of a second
# and 20 MB in every worker, for what this package does not use.  It gets it when it does.
_hidden = "aiohttp" not in sys.modules
if _hidden:
    sys.modules["aiohttp"] = None  # type: ignore[assignment]
try:
    from nats import errors
    from nats.aio.client import Client, Srv, __version__ as VERSION  # noqa: N812
    from nats.aio.subscription import Subscription
    from nats.aio.transport import TcpTransport
    from nats.protocol.parser import PERMISSIONS_ERR
finally:
    if _hidden:
        del sys.modules["aiohttp"]
        if importlib.util.find_spec("aiohttp"):
            for _name in ("aiohttp", "multidict"):
                setattr(sys.modules["nats.aio.transport"], _name, _Later(_name))

_TRIED: Final = "2.16."

# fmt: off
_PARTS: Final = (
    "_attempt_reconnect", "_close", "_flush_pending", "_flusher", "_parse_server_uri",
    "_process_connect_init", "_process_err", "_process_info", "_process_msg",
    "_process_op_err", "_process_ping", "_process_pong", "_read_loop",
    "_select_next_server", "_send_command", "_send_ping",
)
_STATE: Final = (
    "_current_server", "_flusher_task", "_nuid", "_ping_interval_task",
    "_pings_outstanding", "_pongs", "_pongs_received", "_ps", "_public_nkey",
    "_reading_task", "_reconnection_task", "_server_info", "_server_pool", "_sid",
    "_signature_cb", "_status", "_subs", "_transport", "_user_jwt_cb",
)
# fmt: on


def is_tried() -> bool:
    """Tell whether the fast path was tried with this nats-py; warn once if not."""
    if VERSION.startswith(_TRIED):
        return True
    warnings.warn(
        f"nats-py {VERSION} was not tried with kitmsg's fast reader; using its own",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


def _check() -> None:
    """Refuse a nats-py that does not have what this package rests on."""
    state = vars(Client())
    missing = [part for part in _PARTS if not hasattr(Client, part)]
    missing += [part for part in _STATE if part not in state]
    if missing:
        raise ImportError(
            f"kitmsg needs nats-py 2.16; version {VERSION} lacks {', '.join(missing)}"
        )


_check()
