"""Endpoints that stream, as HTTP clients see them.

    serve.py      `Streams`: which of the ways below a request asks for; answers that stream
    live.py       streams: opened for a request, their errors as problems; the open ones:
                  limit, heartbeats, the end of the gateway
    source.py     items that a client streams: lines, bytes, a file in a form, messages
    formats.py    formats of items in an answer: server-sent events, lines, bytes
    websocket.py  items both ways
    protocol.py   the WebSocket protocol, without I/O

A client's view is ``docs/streams.md``.  Left out: compression of streams.
"""
