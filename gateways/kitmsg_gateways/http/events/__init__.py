"""Events over HTTP: CloudEvents in, and the log of an event as a stream.

    serve.py        `Events`: ``POST`` and ``GET /events/{name}``
    cloudevents.py  CloudEvents in a request: structured, binary, a batch
    forms.py        events in an answer: server-sent events, lines, messages
    operations.py   the open events in the OpenAPI document
    reading.py      a follower of a log, as answers that stream read it

A client's view is ``docs/events.md``; which events are open, and what is stored, is the
part of `kitmsg_gateways.edge.events`.
"""
