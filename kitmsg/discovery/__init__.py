"""Discovery: the instances of services, on the bus and in other systems.

What services say of themselves on the bus; interest in a subject is the registry there, and
nothing can go stale:

    subject.py    the ``$SRV`` protocol of NATS micro: answer PING, INFO, STATS; ask for them
    directory.py  a live list of the services on a bus
    conflicts.py  classes that say different things under one name
    catalog.py    their endpoints with the schemas, as gateways need them

Go kit's `sd`, for servers anywhere:

    instance.py   one instance: address, weight, priority, zone, version, tags, metadata
    instancer.py  whole sets as they change: observers, the last good set, state, log
    backoff.py    waits before a system that failed is asked again
    fixed.py      addresses as they were given
"""
