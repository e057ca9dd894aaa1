"""Calls while they run: admitted, counted, logged, and their failures fit for strangers."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kitmsg.errors import Code, Internal, KitError
from kitmsg_gateways.edge.accesslog import AccessLog
from kitmsg_gateways.edge.catalogue import unavailable
from kitmsg_gateways.edge.spans import exemplary, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from kitmsg.tracing.seam import Span
    from kitmsg_gateways.edge.admission import Admission
    from kitmsg_gateways.edge.metrics import Metrics
    from kitmsg_gateways.edge.visit import Visit

__all__ = ["Turns"]

_OK: Final = "ok"

T = TypeVar("T")


class Turns:
    """The running calls of one gateway.

    Args:
        gateway: Its kind.
        admission: Limits them.
        metrics: Counts them.
        access: Format of a line for each; "" for none.
    """

    def __init__(
        self,
        gateway: str,
        admission: Admission,
        metrics: Metrics,
        access: str,
    ) -> None:
        self._admission = admission
        self._metrics = metrics
        self._log = logging.getLogger(f"kitmsg_gateways.{gateway}")
        self._access = AccessLog(gateway, access) if access else None
        # One for each call that runs; to reschedule it ends the call.
        self._limits: set[asyncio.Timeout] = set()

    async def run(
        self,
        name: str,
        visit: Visit,
        work: Coroutine[Any, Any, T],
        failed: Callable[[KitError], T],
        span: Span | None = None,
    ) -> T:
        """Return the result of `work`, or what `failed` makes of its error.

        Args:
            name: ``service.endpoint``.
            visit: Who calls.
            work: The call.
            failed: Gets an error that a stranger may see, with its request id.
            span: Of the call, where it is traced; ends with it.
        """
        started, code = perf_counter(), _OK
        told: BaseException | None = None
        limit = asyncio.timeout(None)
        try:
            self._admission.enter()
            async with limit:
                self._limits.add(limit)
                return await work
        except asyncio.CancelledError as exc:
            code, told = Code.CANCELLED.value, exc
            raise
        except Exception as exc:  # noqa: BLE001  # the last line of defence answers
            is_ended = limit.expired() and not isinstance(exc, KitError)
            told = error = self._told(_stopped() if is_ended else exc, name, visit)
            code = error.code.value
            return failed(error)
        finally:
            self._limits.discard(limit)
            work.close()  # it was never begun if the gateway is full
            self._admission.leave()
            self._count(name, visit, code, perf_counter() - started, span)
            if span is not None:
                finish(span, told)

    def end(self) -> None:
        """End all calls that run, with an error that says that the gateway stops."""
        for limit in self._limits:
            limit.reschedule(0.0)

    def _told(self, error: Exception, name: str, visit: Visit) -> KitError:
        if not isinstance(error, KitError):
            self._log.error(
                "a call of %s failed here (request id %s)",
                *(name, visit.id),
                exc_info=error,
                extra={"endpoint": name, "request_id": visit.id},
            )
            text = f"the gateway failed; its log says more under request id {visit.id}"
            error = Internal(text)
        error.request_id = error.request_id or visit.id
        return error

    def _count(
        self, name: str, visit: Visit, code: str, seconds: float, span: Span | None
    ) -> None:
        if self._metrics.observe(name, code, seconds):
            trace = exemplary(span, visit.trace)
            self._metrics.exemplify(name, code, seconds, trace)
        if self._access is not None:
            self._access.write(
                f"{name} {code}",
                client=visit.address,
                seconds=seconds,
                principal=visit.principal,
                request_id=visit.id,
            )


def _stopped() -> KitError:
    return unavailable("the gateway stopped before the answer came")
