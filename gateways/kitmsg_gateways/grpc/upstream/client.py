"""The connections of a gRPC upstream, one for each address: calls and streams.

A gRPC connection carries many calls at once, so there is no pool beyond that.  A call goes
to a server only when its connection stands, so one that cannot be reached costs nothing
but the wait, and the next address has the call.
"""

from __future__ import annotations

import asyncio
import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

from kitmsg.errors import DataLoss
from kitmsg_gateways.grpc.upstream.call import GrpcReply, Messages
from kitmsg_gateways.upstream.pool import CannotConnect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg_gateways.grpc.upstream.call import GrpcMethod, GrpcRequest
    from kitmsg_gateways.grpc.upstream.options import UpstreamOptions
    from kitmsg_gateways.upstream.client import Outgoing

__all__ = ["GrpcClient", "GrpcReplies"]

_KEY: Final = re.compile(r"[0-9a-z_.-]+")
_LEAST_SECONDS: Final = 0.001

_SECURE: Final = "grpcs://"
_PLAIN: Final = "grpc://"
_FAILED: Final = (
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN,
)


class GrpcClient:
    """Opens a connection to each address when it is first needed.

    Args:
        options: Limits, times, credentials.
        wants_trailers: Whether hooks see the trailing metadata of a success.

    Raises:
        ValueError: A file with certificates cannot be read.
    """

    def __init__(
        self, options: UpstreamOptions, *, wants_trailers: bool = False
    ) -> None:
        self._options = options
        self._wants_trailers = wants_trailers
        self._fixed = options.fixed_metadata()
        self._channels: dict[str, Any] = {}
        self._secrets = _secrets(options)

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

    def propagate(
        self, request: GrpcRequest, along: Outgoing, *, is_endless: bool
    ) -> None:
        """Write the metadata of a call; see `Transport`.  gRPC sends the deadline."""
        for name, value in along.web_headers().items():
            key = name.lower()
            if _KEY.fullmatch(key) and (crosses := _crossing(key, value)) is not None:
                request.metadata[key] = crosses
        request.metadata |= self._fixed

    async def send(
        self, address: str, method: GrpcMethod, request: GrpcRequest, limit: float
    ) -> GrpcReply:
        """Return the reply to a message; see `Transport`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        channel = await self.ready(address)
        call = channel.unary_unary(request.path)(
            request.message,
            timeout=max(_LEAST_SECONDS, end - loop.time()),
            metadata=tuple(request.metadata.items()),
        )
        try:
            message = await call
        except grpc.aio.AioRpcError as exc:
            return _failed(request.path, exc)
        if not self._wants_trailers:
            return GrpcReply(request.path, message)
        trailers = tuple(await call.trailing_metadata() or ())
        return GrpcReply(request.path, message, trailers=trailers)

    async def stream(
        self,
        address: str,
        method: GrpcMethod,
        request: GrpcRequest,
        limit: float | None,
        items: AsyncIterator[Any] | None,
    ) -> GrpcReply | GrpcReplies:
        """Return the reply to a call that streams; see `Transport`."""
        channel = await self.ready(address)
        given: dict[str, Any] = {
            "timeout": limit,
            "metadata": tuple(request.metadata.items()),
        }
        messages = None
        if method.write_item is None:
            call = channel.unary_stream(request.path)(request.message, **given)
        else:
            # For the wire, one answer is a stream of one.
            messages = Messages(method, request.message, items)
            call = channel.stream_stream(request.path)(messages, **given)
        replies = GrpcReplies(request.path, call, messages)
        if method.declaration.signature.gives_items:
            return replies
        return await replies.first()

    async def close(self, address: str = "") -> None:
        """Close the connection to one address, or all of them."""
        gone = [address] if address else list(self._channels)
        channels = [self._channels.pop(each, None) for each in gone]
        for channel in channels:
            if channel is not None:
                await channel.close()


def _crossing(key: str, value: str) -> str | bytes | None:
    """Return a header's value as metadata has it; None for bytes that are no base64."""
    if not key.endswith("-bin"):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        return None


class GrpcReplies:
    """The messages of a call that streams; a failure is the last one.

    Args:
        path: Of the call.
        call: gRPC's.
        messages: That the caller sends; None for one request.
    """

    head = None

    def __init__(self, path: str, call: Any, messages: Messages | None) -> None:
        self._path = path
        self._call = call
        self._messages = messages

    async def __aiter__(self) -> AsyncIterator[GrpcReply]:
        try:
            async for message in self._call:
                yield GrpcReply(self._path, message)
        except grpc.aio.AioRpcError as exc:
            yield _failed(self._path, exc)
        except asyncio.CancelledError:
            # gRPC cancels a call whose messages fail; what failed says more.
            if self._messages is not None and self._messages.error is not None:
                raise self._messages.error from None
            raise

    async def first(self) -> GrpcReply:
        """Return the first message, and end the call.

        Raises:
            DataLoss: There is none.
        """
        try:
            async for reply in self:
                return reply
        finally:
            await self.aclose()
        raise DataLoss(f"{self._path} ended without a result")

    async def aclose(self) -> None:
        """Cancel the call, unless it is over."""
        self._call.cancel()


def _failed(path: str, error: grpc.aio.AioRpcError) -> GrpcReply:
    """Return the reply that a failed call stands for."""
    trailers = tuple((key, value) for key, value in error.trailing_metadata() or ())
    number = error.code().value[0]
    return GrpcReply(path, b"", number, error.details() or "", trailers)


def _secrets(options: UpstreamOptions) -> grpc.ChannelCredentials:
    """Return the certificates to trust, and our own.

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
