"""A JetStream server inside one process, behind a `MemoryBus`: for tests, in virtual time.

    server.py    `Twin`: the API's requests, acks, and what is published, from the bus
    stream.py    a stream: expectations, duplicate window, limits, retention
    log.py       its messages, by sequence and by subject
    consumer.py  a consumer: deliveries, acks, redelivery
    pulls.py     the pulls that wait at a consumer
    batches.py   batches that are stored as one
    reads.py     reads without a consumer
    schedules.py messages that are published later; timing.py reads their rules
    clock.py     the time, and alarms
    refusal.py   the server's errors

It speaks nats-server's own protocol, so that the client is the same code as on a server, and
the contract suite holds it to a real one.  It leaves out what needs more than one process:
replicas, mirrors, sources, placement; and push consumers.
"""
