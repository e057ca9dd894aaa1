"""The OpenAPI document of what is mounted.  Source: OpenAPI 3.1.0, JSON Schema 2020-12.

document.py    paths and operations, JSON-RPC among them
schemas.py     the named schemas of all services, brought together
responses.py   results, streams and errors of an operation
"""
