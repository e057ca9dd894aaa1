"""Connections to servers, one for each address, and what is sent over them.

A gRPC connection carries many calls at once, so there is no pool beyond that.  A call goes
to a server only when its connection stands, so one that cannot be reached costs nothing
but the wait, and the next address has the call.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

from kitmsg_gateways.grpc.status import read_status
from kitmsg_gateways.upstream import CannotConnect

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable

    from kitmsg_gateways.grpc.status import Told
    from kitmsg_gateways.grpc.upstream.options import UpstreamOptions

__all__ = ["Channels", "GrpcReply", "GrpcRequest", "secrets"]

_SECURE: Final = "grpcs://"
_PLAIN: Final = "grpc://"
_FAILED: Final = (
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN,
)


@dataclass(slots=True)
class GrpcRequest:
    """A call that is about to be sent; `Hooks.before` may change it.

    Attributes:
        path: ``/package.Service/Method``.
        message: The request message; b"" where the caller sends a stream.
        metadata: What goes along, by key in lower case.
    """

    path: str
    message: bytes
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class GrpcReply:
    """What came back.

    Attributes:
        path: Of the request.
        message: The reply message; b"" for a failure.
        code: Status number; 0 for success.
        details: The status message.
        trailers: Trailing metadata: pairs of key and value.
    """

    path: str
    message: bytes = b""
    code: int = 0
    details: str = ""
    trailers: tuple[tuple[str, str | bytes], ...] = ()

    @property
    def told(self) -> Told:
        """What the status says; for a failure."""
        return read_status(self.code, self.details, self.trailers)

    @classmethod
    def of(cls, path: str, error: grpc.aio.AioRpcError) -> GrpcReply:
        """Return the reply that a failed call stands for."""
        trailers = tuple((key, value) for key, value in error.trailing_metadata() or ())
        number = error.code().value[0]
        return cls(path, b"", number, error.details() or "", trailers)


class Channels:
    """Opens a connection to each address when it is first needed.

    Args:
        options: Limits, times, credentials.

    Raises:
        ValueError: A file with certificates cannot be read.
    """

    def __init__(self, options: UpstreamOptions) -> None:
        self._options = options
        self._channels: dict[str, Any] = {}
        self._secrets = secrets(options)

    async def ready(self, address: str) -> Any:
        """Return the channel to a server, connected.

        Raises:
            CannotConnect: It cannot be reached in `connect_timeout`.
        """
        channel = self._channels.get(address) or self._open(address)
        state = channel.get_state(try_to_connect=True)
        if state is not grpc.ChannelConnectivity.READY:
            await self._connected(channel, state)
        return channel

    async def _connected(self, channel: Any, state: grpc.ChannelConnectivity) -> None:
        seconds = self._options.connect_timeout
        try:
            async with asyncio.timeout(seconds):
                while state is not grpc.ChannelConnectivity.READY:
                    if state in _FAILED:
                        raise CannotConnect("the connection was refused or lost")
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            raise CannotConnect(f"no connection in {seconds:g} s") from None

    def _open(self, address: str) -> Any:
        most = self._options.max_message_bytes
        options = [
            ("grpc.max_receive_message_length", most),
            ("grpc.max_send_message_length", most),
            ("grpc.keepalive_time_ms", int(self._options.keepalive_interval * 1000)),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        target = address.removeprefix(_SECURE).removeprefix(_PLAIN)
        if address.startswith(_SECURE) or self._options.tls:
            channel = grpc.aio.secure_channel(target, self._secrets, options)
        else:
            channel = grpc.aio.insecure_channel(target, options)
        self._channels[address] = channel
        return channel

    async def close(self, address: str = "") -> None:
        """Close the connection to one address, or all of them."""
        gone = [address] if address else list(self._channels)
        channels = [self._channels.pop(each, None) for each in gone]
        for channel in channels:
            if channel is not None:
                await channel.close()


def secrets(options: UpstreamOptions) -> grpc.ChannelCredentials:
    """Return what servers are trusted for, and what we prove ourselves with.

    Raises:
        ValueError: A file cannot be read.
    """

    def read(path: str) -> bytes | None:
        try:
            return Path(path).read_bytes() if path else None
        except OSError as exc:
            raise ValueError(f"cannot read {path}: {exc.strerror}") from exc

    return grpc.ssl_channel_credentials(
        read(options.ca_file), read(options.key_file), read(options.cert_file)
    )


async def unary(
    channel: Any, request: GrpcRequest, timeout: float, *, wants_trailers: bool
) -> GrpcReply:
    """Send one message and return what came back, be it a failure.

    Args:
        channel: Connected.
        request: What to send.
        timeout: Seconds it may take.
        wants_trailers: Whether the trailing metadata of a success is wanted.
    """
    call = channel.unary_unary(request.path)(
        request.message, timeout=timeout, metadata=tuple(request.metadata.items())
    )
    try:
        message = await call
    except grpc.aio.AioRpcError as exc:
        return GrpcReply.of(request.path, exc)
    trailers = tuple(await call.trailing_metadata() or ()) if wants_trailers else ()
    return GrpcReply(request.path, message, trailers=trailers)


async def stream(
    channel: Any,
    request: GrpcRequest,
    items: AsyncIterable[bytes] | None,
    timeout: float | None,
) -> AsyncGenerator[GrpcReply, None]:
    """Send a call that streams; yields what comes back, a failure last.

    Args:
        channel: Connected.
        request: What to send; without `items`, its message.
        items: Messages to send.
        timeout: Seconds that all of it may take; None for as long as it likes.
    """
    given: dict[str, Any] = {
        "timeout": timeout,
        "metadata": tuple(request.metadata.items()),
    }
    if items is None:
        call = channel.unary_stream(request.path)(request.message, **given)
    else:
        # For the wire, one answer is a stream of one.
        call = channel.stream_stream(request.path)(items, **given)
    try:
        async for message in call:
            yield GrpcReply(request.path, message)
    except grpc.aio.AioRpcError as exc:
        yield GrpcReply.of(request.path, exc)
    finally:
        call.cancel()  # harmless when it is over
