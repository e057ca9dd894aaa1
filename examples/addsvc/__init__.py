"""Go kit's addsvc: two methods with business rules, served and called in both styles.

service.py   the service: typed methods, errors of its own, middlewares
client.py    calls it over the bus, and catches its errors by type
gokit.py     the same as Go kit's own clients know it, in its way on the bus
__main__.py  that one with all its doors: HTTP, JSON-RPC, gRPC, Thrift, NATS
explicit.py  the same endpoints wired by hand: chain, make_endpoint, Server, Client
"""
