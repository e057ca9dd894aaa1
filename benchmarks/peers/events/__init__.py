"""Peers of ``events``: what is stored, told and heard.

    orders.py   the event, its stream, and the meter of those that come
    kit.py      kitmsg as its users write it
    natspy.py   nats-py's JetStream, and nothing on it
    stream.py   FastStream's subscribers, in their best settings
    flood.py    the publisher of what is heard and not stored

A module's ``connect(setting)`` returns a `benchmarks.peers.trial.Trial` for the variant, such
as ``consume``.  The events of each peer are in the form that it publishes itself.
"""
