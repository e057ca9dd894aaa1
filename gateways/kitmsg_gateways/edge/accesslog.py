"""One line for each call, when the operator wants it.

The facts are fields of the record, so `kitmsg.worker.logs` writes them for people or for
machines.  Nothing of a request's body, query or headers is in it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kitmsg.auth import Principal

__all__ = ["AccessLog"]


class AccessLog:
    """Writes the lines of one gateway.

    Args:
        gateway: Its kind; the logger is ``kitmsg_gateways.KIND.access``.
    """

    def __init__(self, gateway: str) -> None:
        self._log = logging.getLogger(f"kitmsg_gateways.{gateway}.access")

    def write(
        self,
        line: str,
        *,
        client: str,
        seconds: float,
        principal: Principal | None = None,
        **facts: object,
    ) -> None:
        """Write the line of a call.

        Args:
            line: What was called and how it ended; anything but plain ASCII is escaped.
            client: The address that called.
            seconds: How long it took.
            principal: Who called; None when nobody knows.
            facts: More fields of the record.
        """
        extra = {"client": client, "ms": round(seconds * 1000, 1), **facts}
        if principal is not None:
            extra["principal"] = ascii(principal.name)[1:-1]
        plain = line.encode("ascii", "backslashreplace").decode()
        self._log.info("%s", plain, extra=extra)
