"""Endpoints that stream, as HTTP clients see them.

    serve.py      `Streams`: which of the ways below a request asks for
    opening.py    from a request to an open stream on the bus; its errors as problems
    live.py       the streams that are open: limit, heartbeats, the end of the gateway
    source.py     the body of a request as items: lines, bytes, a file in a form
    formats.py    formats of items in an answer: server-sent events, lines, bytes
    download.py   an answer written bit by bit, in one of them
    websocket.py  items both ways
    handshake.py  the request that becomes a WebSocket
    frames.py     WebSocket frames, without I/O
    inbox.py      messages of a WebSocket that wait to be taken

A client's view is ``docs/streams.md``.  Left out: compression of streams.
"""
