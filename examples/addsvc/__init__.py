"""Go kit's addsvc: two methods with business rules, served and called in both styles.

service.py   the service: typed methods, errors of its own, middlewares
client.py    calls it over the bus, and catches its errors by type
explicit.py  the same endpoints wired by hand: chain, make_endpoint, Server, Client
"""
