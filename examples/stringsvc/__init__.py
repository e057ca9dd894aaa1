"""Go kit's string service in three steps, each one file on top of the one before.

stringsvc1.py  a plain class, its endpoints, the transport
stringsvc2.py  logging and instrumentation, as service and as endpoint middlewares
stringsvc3.py  one method is served by other instances, over the bus
"""
