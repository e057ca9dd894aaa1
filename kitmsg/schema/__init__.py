"""From a method's signature to types, and from types to JSON Schema.

    reading.py      `signature`: reads a method, refuses what cannot travel
    signatures.py   `Signature`: request, response, decoders, encoders, schemas
    described.py    `described`: a signature given by JSON Schemas
    conform.py      plain values checked against a JSON Schema
    calls.py        from a request to a call of the method
    types.py        what has a wire form; 64-bit integers, finite floats
    defaults.py     defaults of dataclasses that came over the wire
    strict.py       what is refused inside the user's own classes
    jsonschema.py   JSON Schema of types
    places.py       `header`: a parameter from a header at the HTTP gateway
    errortype.py    `error_codec`: declared errors on the wire
    shapes.py       what a service says, as a small tree; `KINDS`, the table of types
    shaping.py      `shape_service`: from schemas of all endpoints to shapes
    shapereader.py  from one schema to shapes
    naming.py       names for generated code
    lock.py         `Lock`: numbers of fields that no release moves
    numbers.py      `Numbers`: a lock for as long as a gateway runs

Types are the schema: there is no second description to keep in step.
"""

from kitmsg.schema.calls import Adapter
from kitmsg.schema.errortype import error_codec, error_schema
from kitmsg.schema.jsonschema import json_schema
from kitmsg.schema.places import header
from kitmsg.schema.reading import signature
from kitmsg.schema.signatures import Signature

__all__ = [
    "Adapter",
    "Signature",
    "error_codec",
    "error_schema",
    "header",
    "json_schema",
    "signature",
]
