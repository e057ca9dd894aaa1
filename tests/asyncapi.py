"""The check of AsyncAPI documents, by their official JSON Schema."""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft7Validator

from kitmsg.schema.pointers import lookup, references

__all__ = ["check", "problems"]

# From @asyncapi/specs 6.11.1, Apache License 2.0: schemas/3.0.0-without-$id.json, without its
# white space.
_SCHEMA: Final = Path(__file__).parent / "data/asyncapi-3.0.0.schema.json.gz"


@functools.cache
def _validator() -> Any:
    return Draft7Validator(json.loads(gzip.decompress(_SCHEMA.read_bytes())))


def problems(document: Any) -> list[str]:
    """Return what is wrong with a document, as sentences."""
    found = [
        f"{'/'.join(map(str, error.path))}: {error.message[:200]}"
        for error in _validator().iter_errors(document)
    ]
    return found + [
        f"{reference} leads nowhere"
        for reference in references(document)
        if not lookup(reference, document)
    ]


def check(document: Any) -> None:
    """Fail unless a document is valid and its references lead somewhere."""
    assert problems(document) == []
