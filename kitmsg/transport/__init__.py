"""Turns messages into endpoint calls (`Server`) and endpoint calls into messages (`Client`).

    server.py   Server: a subject is served by an endpoint
    failures.py what callers, the log and the supervision hear of an error
    intake.py   Intake: mailbox, queue-group membership and drain that servers share
    caller.py   Caller: one call, bytes in and out, with all that a call promises
    counted.py  counts of calls that failed, and of streams
    traced.py   spans around calls
    client.py   Client: an endpoint that asks over the bus: encode, caller, decode
    replies.py  errors as replies and back; the codec of a reply
    typed.py    encoders and decoders made from a method's signature
    heads.py    request headers that many calls share, parsed once
    lateness.py  how long a request was held on its way
    gokit.py    the same, as Go kit's NATS transport speaks them

    stream.py         a stream between two peers, in bytes; opening.py: how it begins
    frames.py         its messages; windows.py: its flow; inbox.py: where they arrive
    wheel.py          its heartbeats: a timer wheel
    stream_server.py  StreamServer: a subject whose endpoint streams
    stream_client.py  StreamClient: such an endpoint, called over the bus
    transfer.py       requests and replies too long for one message

Decode, endpoint and encode are given from outside, with hooks around them in Go kit's
order.  Server: before, decode, endpoint, after, encode, finalizer.  Client: encode, before,
send, after, decode, finalizer.
"""

from __future__ import annotations

from kitmsg.transport.caller import Caller
from kitmsg.transport.client import Client
from kitmsg.transport.intake import Intake
from kitmsg.transport.opening import open_stream
from kitmsg.transport.server import Server
from kitmsg.transport.stream import Stream
from kitmsg.transport.stream_client import StreamCall, StreamClient
from kitmsg.transport.stream_server import StreamServer
from kitmsg.transport.typed import (
    decode_item,
    decode_request,
    decode_response,
    encode_item,
    encode_request,
    encode_response,
)

__all__ = [
    "Caller",
    "Client",
    "Intake",
    "Server",
    "Stream",
    "StreamCall",
    "StreamClient",
    "StreamServer",
    "decode_item",
    "decode_request",
    "decode_response",
    "encode_item",
    "encode_request",
    "encode_response",
    "open_stream",
]
