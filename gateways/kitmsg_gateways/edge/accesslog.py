"""One line for each call, when the operator wants it.

As a log line, the facts are fields of the record, so `kitmsg.logs` writes them for people or
for machines on standard error.  In the formats of web servers (`kitmsg.logs.access`) lines go
to standard output, where nothing else is written.  Nothing of a request's body, query or
headers is in it; `combined` has the referer and the user agent.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from kitmsg.errors import Code
from kitmsg.logs.access import LINE, Call, access_line
from kitmsg.logs.fold import CALL
from kitmsg.logs.redact import Redactor

if TYPE_CHECKING:
    from kitmsg.auth import Principal

__all__ = ["AccessLog"]

_OK: Final = 200


class AccessLog:
    """Writes the lines of one gateway.

    Args:
        gateway: Its kind; the logger of log lines is ``kitmsg_gateways.KIND.access``.
        form: One of `kitmsg.logs.access.ACCESS_FORMATS`.

    Attributes:
        is_line: Whether its lines are log lines, so that no `Call` is needed.
    """

    def __init__(self, gateway: str, form: str = LINE) -> None:
        self._log = logging.getLogger(f"kitmsg_gateways.{gateway}.access")
        self._protocol = gateway.upper()
        self._form = form
        self.is_line = form == LINE
        self._redactor = Redactor()
        self._is_lost = False

    def write(
        self,
        line: str,
        *,
        client: str,
        seconds: float,
        principal: Principal | None = None,
        call: Call | None = None,
        **facts: object,
    ) -> None:
        """Write the line of a call.

        Args:
            line: What was called and how it ended; anything but plain ASCII is escaped.
            client: The address that called.
            seconds: How long it took.
            principal: Who called; None when nobody knows.
            call: The call as web servers see it; by default made of `line`: a name, and
                a code.
            facts: More fields of the record.
        """
        user = "" if principal is None else ascii(principal.name)[1:-1]
        if not self.is_line:
            called = call or self._called(line, client, seconds)
            self._print(called._replace(user=user), facts)
            return
        extra = {"client": client, "ms": round(seconds * 1000, 1), **facts, CALL: True}
        if user:
            extra["principal"] = user
        plain = line.encode("ascii", "backslashreplace").decode()
        self._log.info("%s", plain, extra=extra)

    def _called(self, line: str, client: str, seconds: float) -> Call:
        name, _, code = line.rpartition(" ")
        status = _OK if code == "ok" else Code(code).http
        protocol = self._protocol
        return Call(client, "", "CALL", f"/{name}", protocol, status, None, seconds)

    def _print(self, call: Call, facts: dict[str, object]) -> None:
        text = access_line(self._form, call, datetime.now(UTC), facts)
        try:
            # In one write, so that lines of several processes do not mix.
            sys.stdout.write(f"{self._redactor.text(text)}\n")
            sys.stdout.flush()
        except (OSError, ValueError) as exc:
            if not self._is_lost:
                self._is_lost = True
                self._log.warning("lines of calls are lost: standard output: %s", exc)
