"""Types of a method's signature, and JSON Schema of types.

    reading.py      `signature`: reads a method, refuses what cannot travel
    signatures.py   `Signature`: request, response, decoders, encoders, schemas
    described.py    `described`: a signature given by JSON Schemas
    pointers.py     references inside a document
    live.py         schemas that a peer tells: their hash, and a budget for readers
    instances.py    plain values validated against a JSON Schema
    calls.py        from a request to a call of the method
    types.py        what has a wire form; 64-bit integers, finite floats
    constraints.py  constraints of annotated_types and pydantic, as msgspec's
    patterns.py     patterns that may take long, refused
    classes.py      what the user's own classes say, checked: defaults, keys, constraints
    typevars.py     type variables, bound to what a generic class is given
    defaults.py     defaults of dataclasses that came over the wire
    validate.py     checks beyond msgspec's, at any depth of a request
    integers.py     integers that are written as floats
    results.py      results encoded, and held to their annotation
    jsonschema.py   JSON Schema of types, tidied; hashes
    generator.py    JSON Schema of types, as they go in or come out
    components.py   the named classes of a type, and their names
    objects.py      JSON Schemas of callers who take and give objects only
    definitions.py  `Definitions`: named schemas of many documents in one
    texts.py        parameters that are text, such as a URL's, as values
    samples.py      sample values for a JSON Schema
    places.py       `header`: a parameter from a header at the HTTP gateway
    errortype.py    `error_codec`: declared errors on the wire
    errorclass.py   `error_class`: classes for declared errors known by their schema

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
