"""Discovery: services announce themselves and are found on the bus itself.

    subject.py    the ``$SRV`` protocol of NATS micro: answer PING, INFO, STATS; ask for them
    directory.py  a live list of the services on a bus
    claims.py     who may be called where: names and subjects, and who had them first
    limits.py     how much of what is said on a bus is listed
    conflicts.py  classes that say different things under one name
    catalog.py    their endpoints with the schemas, as gateways need them

Interest in a subject is the registry: nothing can go stale.
"""
