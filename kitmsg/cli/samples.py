"""Lines to try: a sample request from a JSON Schema, as curl and as ``kitmsg call``."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from kitmsg.schema.pointers import alternatives
from kitmsg.schema.samples import NONE, Samples

if TYPE_CHECKING:
    from collections.abc import Mapping

    Schema = Mapping[str, Any]

__all__ = ["Sample", "chosen", "make_sample", "sample_request"]

_BODYLESS: Final = frozenset({"GET", "HEAD", "DELETE"})


@dataclass(frozen=True)
class Sample:
    """One endpoint's lines to try.

    Args:
        name: Dotted name.
        curl: A curl command.
        call: A ``kitmsg call`` command.
    """

    name: str
    curl: str
    call: str


def make_sample(name: str, schema: dict[str, Any], route: str, base: str) -> Sample:
    """Return the lines for an endpoint.

    Args:
        name: Dotted name, such as ``greeter.hello``.
        schema: JSON Schemas of the endpoint; {} if unknown.
        route: Declared route, such as ``GET /hello/{name}``; "" for none.
        base: Address of the HTTP gateway.
    """
    request = sample_request(schema.get("request", {}))
    curl, call = _curl(name, request, route, base), _call(name, request)
    stream = schema.get("stream")
    if stream == "out":
        curl = curl.replace("curl", "curl -N", 1)
    elif stream:
        items = schema.get("items", {})
        item = json.dumps(_sample(items))
        echo = shlex.join(["echo", item])
        curl = f"{echo} | {_upload(name, request, route, base)}"
        call = f"{echo} | {call}"
    return Sample(name, curl, call)


def sample_request(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a request that fits `schema`, as far as types say: required fields only."""
    value = _sample(schema)
    return value if isinstance(value, dict) else {}


def chosen(schema: Schema, root: Schema) -> Schema:
    """Return `schema` with references followed, or its first choice that is not null."""
    found = alternatives(schema, root)
    return next((each for each in found if each.get("type") != "null"), schema)


def _sample(schema: Schema) -> Any:
    """Return a value that fits a schema, roughly; {} where a service says nonsense."""

    def resolve(part: Any) -> Schema:
        return chosen(part, schema)

    found = Samples(resolve, _word, is_rough=True).of(schema)
    return {} if found is NONE else found


def _word(name: str) -> str:
    return "Ann" if "name" in name.lower() else "hello"


def _curl(name: str, request: dict[str, Any], route: str, base: str) -> str:
    method, path, rest = _target(name, request, route)
    parts = ["curl"]
    if method in _BODYLESS:
        parts += [] if method == "GET" else ["-X", method]
        return shlex.join([*parts, base + path + _query(rest)])
    parts += ["-X", method] if method != "POST" else []
    parts += ["--json", json.dumps(rest, ensure_ascii=False)]
    return shlex.join([*parts, base + path])


def _upload(name: str, request: dict[str, Any], route: str, base: str) -> str:
    """Return a curl command that streams its standard input, a line for each item."""
    is_bodyless = route.partition(" ")[0] in _BODYLESS  # then it is for WebSockets
    method, path, rest = _target(name, request, "" if is_bodyless else route)
    parts = ["curl", "-N", *([] if method == "POST" else ["-X", method])]
    kind = "Content-Type: application/x-ndjson"
    url = base + path + _query(rest)
    return shlex.join([*parts, "-H", kind, "--data-binary", "@-", url])


def _target(
    name: str, request: dict[str, Any], route: str
) -> tuple[str, str, dict[str, Any]]:
    """Return method and path of a route, and what of the request is not in the path."""
    service, _, endpoint = name.partition(".")
    method, _, path = (route or f"POST /{service}/{endpoint}").partition(" ")
    rest = dict(request)
    for field in re.findall(r"\{([^}]+)\}", path):
        key = field.partition(":")[0].strip("*")
        path = path.replace(f"{{{field}}}", quote(_plain(rest.pop(key, "x")), safe=""))
    return method, path, rest


def _query(fields: dict[str, Any]) -> str:
    plain = {name: _plain(value) for name, value in fields.items()}
    return f"?{urlencode(plain)}" if plain else ""


def _call(name: str, request: dict[str, Any]) -> str:
    if any(isinstance(value, (dict, list)) for value in request.values()):
        text = json.dumps(request, ensure_ascii=False)
        return shlex.join(["kitmsg", "call", name, "--data", text])
    words = [f"{key}={_plain(value)}" for key, value in request.items()]
    return shlex.join(["kitmsg", "call", name, *words])


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
