"""Endpoints that stream, as HTTP clients see them.

    serve.py      `Streams`: which of the ways below a request asks for
    opening.py    from a request to an open stream on the bus; its errors as problems
    live.py       the streams that are open: limit, heartbeats, the end of the gateway
    accept.py     which form a client wants
    forms.py      the forms of items that go out
    out.py        an answer written bit by bit, in one of them
    sse.py        server-sent events, with ids to resume at
    ndjson.py     lines of JSON, both ways
    octets.py     plain bytes, both ways
    body.py       the body of a request as items
    upload.py     a file in a form
    websocket.py  items both ways
    inbox.py      what came on one and is not taken yet
    handshake.py  the request that becomes a WebSocket
    frames.py     WebSocket frames, without I/O
    ranges.py     parts of whole files

What a client sees is told in ``docs/streams.md``.  Left out: compression of streams.
"""
