"""Discovery: the instances of services, on the bus and in other systems.

What services say of themselves on the bus; interest in a subject is the registry there, and
nothing can go stale:

    subject.py    the ``$SRV`` protocol of NATS micro: answer PING, INFO, STATS; ask for them
    directory.py  a live list of the services on a bus
    claims.py     who may be called where: names and subjects, and who had them first
    limits.py     how much of what is said on a bus is listed
    conflicts.py  classes that say different things under one name
    events.py     the events that services publish and subscribe to, merged by name
    catalog.py    their endpoints and events with the schemas, as gateways need them

Go kit's `sd`, for servers anywhere:

    instance.py   one instance: address, weight, priority, zone, version, tags, metadata
    address.py    the one syntax for where a server is, or where to ask; plugins by scheme
    instancer.py  whole sets as they change: observers, the last good set, state, log
    registrar.py  one loop: announce, renew, announce again, take back
    backoff.py    waits before a system that failed is asked again
    fixed.py      addresses as they were given
    dns.py        A, AAAA and SRV records
    bus.py        instances that answer ``$SRV``
    consul.py     blocking queries; entries with a TTL check
    etcd.py       a range and a watch; leased entries; zookeeper.py: watches, ephemeral nodes
    eureka.py     an app, asked for now and then; entries with heartbeats
    pool.py       a bus whose servers are found so
    rest.py       HTTP within bounds, for three of them; value.py: what two of them store
"""
