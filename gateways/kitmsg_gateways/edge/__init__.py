"""Parts that every door has, whatever its protocol.

calls.py  `Callers`: the gateway's calls over the bus, with its middlewares around
"""
