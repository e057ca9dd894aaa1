"""``grpc.health.v1.Health``: is the gateway well, is a service there?

A service is asked for by its gRPC name or by its name on the bus; "" is the gateway
itself.  Source: the gRPC health checking protocol (grpc/doc/health-checking.md).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc_health.v1 import health_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg_gateways.grpc.methods import Guarded, Handler

__all__ = ["SERVICE", "Health"]

SERVICE: Final = "grpc.health.v1.Health"
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """Answers health checks.

    Args:
        is_well: Tells whether the gateway can serve: it has a bus, and is not stopping.
        is_served: Tells whether a service is there; None for one never heard of.
    """

    def __init__(
        self, is_well: Callable[[], bool], is_served: Callable[[str], bool | None]
    ) -> None:
        self._is_well = is_well
        self._is_served = is_served
        self._is_over = False
        self._changed = asyncio.Event()

    def handlers(self, guarded: Guarded) -> dict[str, Handler]:
        """Return what gRPC calls, by path.

        Whether the gateway is well anybody may ask, as with HTTP's ``/readyz``: platforms
        have no credentials.  What services there are is not for strangers.

        Args:
            guarded: See `Calls.guarded`.
        """
        read = health_pb2.HealthCheckRequest.FromString
        write = health_pb2.HealthCheckResponse.SerializeToString
        check, watch = f"/{SERVICE}/Check", f"/{SERVICE}/Watch"
        return {
            check: grpc.stream_unary_rpc_method_handler(
                guarded(check, self.check, read, _is_overall), None, write
            ),
            watch: grpc.stream_stream_rpc_method_handler(
                guarded(watch, self.watch, read, _is_overall), None, write
            ),
        }

    def changed(self) -> None:
        """Look again: something may have changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    def end(self) -> None:
        """Serve nothing from now on, and end every watch."""
        self._is_over = True
        self.changed()

    def status(self, service: str) -> health_pb2.HealthCheckResponse.ServingStatus:
        """Return the status of a service; "" for the gateway."""
        is_well = not self._is_over and self._is_well()
        if not service or service == SERVICE:
            return _SERVING if is_well else _NOT_SERVING
        is_served = self._is_served(service)
        if is_served is None:
            return _UNKNOWN
        return _SERVING if is_served and is_well else _NOT_SERVING

    async def check(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """Answer one check; NOT_FOUND for a service never heard of."""
        status = self.status(request.service)
        if status == _UNKNOWN:
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                "there is no such service here; reflection lists those there are",
            )
        return health_pb2.HealthCheckResponse(status=status)

    async def watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        """Tell the status now and whenever it changes, until the gateway stops."""
        last = None
        while True:
            # Before looking, so that no change is missed.
            changed, is_over = self._changed, self._is_over
            status = self.status(request.service)
            if status != last:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                last = status
            if is_over:
                return
            await changed.wait()


def _is_overall(request: health_pb2.HealthCheckRequest) -> bool:
    return not request.service
