"""``kitmsg call``: one request to one endpoint, of any service on the bus.

What an endpoint streams is printed as it comes, a line for each item; what it takes is
read from standard input, a line of JSON for each.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.output import UsageError, to_json
from kitmsg.cli.remote import add_bus_flags, fetch_schemas, find_endpoint, on_bus
from kitmsg.cli.samples import chosen
from kitmsg.errors import code_of
from kitmsg.schema.pointers import alternatives
from kitmsg.wire import Meta, direct_subject

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
    from typing import TextIO

    from kitmsg.balance.everyone import Answer
    from kitmsg.balance.routes import Route
    from kitmsg.bus import Bus
    from kitmsg.context import Context
    from kitmsg.discovery.subject import EndpointInfo
    from kitmsg.endpoints import Endpoint
    from kitmsg.message import Message
    from kitmsg.service import Kit

__all__ = ["add_arguments", "parse_pairs", "run"]

_EPILOG: Final = """\
  kitmsg call greeter.hello name=Ann
  kitmsg call orders.search tag=tea tag=green
  kitmsg call orders.place --data '{"sku": "tea", "count": 2}'
  echo '{"name": "Ann"}' | kitmsg call greeter.hello -
  kitmsg call ticker.watch symbol=tea count=3
  seq 100 | kitmsg call ticker.average
  kitmsg call orders.get id=7 --route version:1.5
  kitmsg call orders.health --everyone

A value is read as the endpoint's schema wants it: name=5 is text where name is a string.
Without a schema, what is JSON is read as JSON, the rest as text.  A key that comes again
makes a list.
"""
_SECONDS: Final = 5.0
_JSON_TYPES: Final[dict[str, Any]] = {
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.epilog = _EPILOG
    parser.set_defaults(rest="pairs")
    parser.add_argument("name", metavar="SERVICE.ENDPOINT")
    parser.add_argument(
        "pairs", nargs="*", default=[], metavar="KEY=VALUE", help="or - for stdin"
    )
    parser.add_argument(
        "-d", "--data", metavar="TEXT", help="the request as a JSON object"
    )
    parser.add_argument("--json", action="store_true", help="JSON, for programs")
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="longest wait (default: 5; none for a stream)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--route",
        metavar="ROUTE",
        help="direct, sticky:FIELD, version:~=1.4 or split:1.4=95,1.5=5",
    )
    where.add_argument(
        "--everyone",
        action="store_true",
        help="call all instances; a line for each, 1 if one fails",
    )
    parser.add_argument(
        "--trace",
        action="store_true",
        help="print the tree of the call's spans, too (of kitmsg dev's services)",
    )
    add_bus_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Call, and print the answer; returns the exit code."""
    if options.timeout is not None and not options.timeout > 0:
        raise UsageError("--timeout must be more than 0")
    request = _read_object(options)

    pairs = [pair for pair in options.pairs if pair != "-"]
    parse_pairs(pairs, {})  # mistakes come before the connection
    route = _route(options.route)

    async def work(kit: Kit) -> int:
        fields = dict(request)
        if pairs:
            fields |= parse_pairs(pairs, await _request_schema(kit, options.name))
        endpoint = await find_endpoint(kit.bus, options.name)
        kind = (endpoint.metadata or {}).get(Meta.STREAM) if endpoint else None
        if kind and endpoint:
            if route is not None or options.everyone:
                raise UsageError(f"{options.name} streams: it takes no route here")
            takes = kind in ("in", "both")
            await _stream(kit.bus, options, endpoint, fields, takes_items=takes)
            return 0
        timeout = options.timeout or _SECONDS
        calls = _Calls(kit, options.name, endpoint, timeout)
        if options.everyone:
            return await _ask_everyone(calls, fields, is_json=options.json)
        answer = await calls.on(route)(_context(), fields)
        print(_shown(answer, is_json=options.json))
        return 0

    return on_bus(options, _traced(work) if options.trace else work)


def _traced(
    work: Callable[[Kit], Coroutine[Any, Any, int]],
) -> Callable[[Kit], Coroutine[Any, Any, int]]:
    """Return `work` that prints the tree of its spans, too."""
    from kitmsg.cli.tree import gathering, show_tree

    async def traced(kit: Kit) -> int:
        with gathering() as bag:
            try:
                return await work(kit)
            finally:
                show_tree(bag)

    return traced


def _route(text: str | None) -> Route | None:
    if text is None:
        return None
    from kitmsg.balance.routes import parse_route

    try:
        return parse_route(text)
    except ValueError as exc:
        raise UsageError(f"--route: {exc}") from exc


async def _stream(
    bus: Bus,
    options: argparse.Namespace,
    endpoint: EndpointInfo,
    fields: dict[str, Any],
    *,
    takes_items: bool,
) -> None:
    """Print each item as it comes, and send those of standard input."""
    from kitmsg.context import Context
    from kitmsg.schema.calls import StreamRequest
    from kitmsg.transport.stream_client import StreamClient

    client = StreamClient(
        bus,
        endpoint.subject,
        name=options.name,
        encode=_encode,
        decode=_decode,
        encode_item=_encode if takes_items else None,
        gives_items=True,
        lifetime=options.timeout,
    )
    request = StreamRequest(fields, _lines() if takes_items else None)
    async for item in await client.endpoint()(Context(), request):
        print(_shown(item, is_json=options.json, is_line=True), flush=True)


async def _lines() -> AsyncIterator[Any]:
    """Read items from standard input, a line of JSON for each."""
    source = _own_input()
    number = 0
    while line := await _in_background(source.readline):
        number += 1
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except ValueError as exc:
            raise UsageError(f"line {number} of the input is not JSON: {exc}") from exc
        yield item


def _own_input() -> TextIO:
    """Open standard input once more: `sys.stdin` cannot be closed while a thread reads."""
    try:
        return open(sys.stdin.fileno(), encoding="utf-8", closefd=False)
    except (OSError, ValueError):  # it is no file
        return sys.stdin


async def _in_background(read: Callable[[], str]) -> str:
    """Return what `read` does, in a thread that the end of the process does not wait for.

    The service may have answered long before the input ends.
    """
    import asyncio
    import threading

    loop = asyncio.get_running_loop()
    future: asyncio.Future[str] = loop.create_future()

    def tell(line: str, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(UsageError(f"standard input cannot be read: {error}"))
        else:
            future.set_result(line)

    def work() -> None:
        line, error = "", None
        try:
            line = read()
        except (OSError, ValueError) as exc:  # closed, or no UTF-8
            error = exc
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, line, error)

    threading.Thread(target=work, daemon=True).start()
    return await future


class _Calls:
    """Calls of one endpoint, in JSON, which services in every language read."""

    def __init__(
        self, kit: Kit, name: str, endpoint: EndpointInfo | None, timeout: float
    ) -> None:
        self.kit = kit
        self.name = name
        self.subject = endpoint.subject if endpoint else name
        self.timeout = timeout
        facts = (endpoint.metadata if endpoint else None) or {}
        self._is_gokit = facts.get(Meta.WIRE) == "gokit"

    def at(self, subject: str) -> Endpoint[Any, Any]:
        """Return the call at a subject."""
        from kitmsg.discovery.directory import Directory
        from kitmsg.transport import gokit
        from kitmsg.transport.client import Client

        client: Client[Any, Any] = Client(
            self.kit.bus,
            subject,
            name=self.name,
            timeout=self.timeout,
            encode=_encode,
            decode=_decode,
            error_decoder=_told(gokit.decode_error) if self._is_gokit else None,
            hint=Directory(self.kit.bus).hint,
        )
        return client.endpoint()

    def on(self, route: Route | None) -> Endpoint[Any, Any]:
        """Return the call by a route; in the queue group without one."""
        if route is None:
            return self.at(self.subject)
        fleet = self.kit.fleet(self.name.partition(".")[0])
        return fleet.routed(route, self.subject, self.name, self.at)


async def _ask_everyone(calls: _Calls, fields: dict[str, Any], *, is_json: bool) -> int:
    """Print a line for each instance; return 1 if one failed."""
    from kitmsg.balance.everyone import ask_everyone

    service, _, endpoint = calls.name.partition(".")

    def ask(instance: str) -> Any:
        own = direct_subject(service, instance, calls.subject)
        return calls.at(own)(_context(), fields)

    code = 0
    async for answer in ask_everyone(
        calls.kit.bus, service, ask, timeout=calls.timeout, endpoint=endpoint
    ):
        code = code or int(answer.error is not None)
        print(_line(answer, is_json=is_json), flush=True)
    return code


def _line(answer: Answer, *, is_json: bool) -> str:
    error = None if answer.error is None else f"{code_of(answer.error)}: {answer.error}"
    if is_json:
        said = {"instance": answer.instance.address, "version": answer.instance.version}
        said |= {"value": answer.value} if error is None else {"error": error}
        return to_json(said, is_compact=True)
    shown = _shown(answer.value, is_json=False, is_line=True)
    return f"{answer.instance.address}  {shown if error is None else error}"


def _context() -> Context:
    from kitmsg.context import Context

    return Context()


def _told(decode: Callable[..., Any]) -> Callable[..., Any]:
    """Have the errors of a decoder know the message that told of them."""

    def decode_error(ctx: Context, message: Message) -> Any:
        error = decode(ctx, message)
        if error is not None:
            error.reply = message
        return error

    return decode_error


def _encode(ctx: Context, request: Any) -> bytes:
    from kitmsg.codec import JSON

    ctx.codec = JSON
    return JSON.encoder()(request)


def _decode(ctx: Context, message: Message) -> Any:
    from kitmsg.transport.typed import reply_codec

    try:
        return reply_codec(ctx, message).decoder()(message.data)
    except Exception:  # noqa: BLE001  # another language's reply may be anything
        return message.data.decode(errors="replace")


def parse_pairs(pairs: list[str], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that ``key=value`` words mean.

    Args:
        pairs: The words.
        schema: JSON Schema of the request; {} if unknown.

    Raises:
        UsageError: A word has no ``=``.
    """
    fields = chosen(schema, schema).get("properties", {})
    given: dict[str, list[str]] = {}
    for pair in pairs:
        key, found, text = pair.partition("=")
        if not found or not key:
            hint = "; give JSON by --data" if pair.startswith(("{", "[")) else ""
            raise UsageError(f"{pair!r} is not key=value{hint}")
        given.setdefault(key, []).append(text)
    return {key: _field(texts, fields.get(key), schema) for key, texts in given.items()}


def _field(
    texts: list[str], schema: Mapping[str, Any] | None, root: Mapping[str, Any]
) -> Any:
    """Return the value of a field that was given once, or several times."""
    types = None if schema is None else _types(schema, root)
    items = None if schema is None else _item_types(schema, root)
    if len(texts) > 1:
        return [_value(text, items) for text in texts]
    value = _value(texts[0], types)
    is_list = types is not None and types - {"null"} == {"array"}
    is_one = is_list and value is not None and not isinstance(value, list)
    return [_value(texts[0], items)] if is_one else value


def _types(schema: Mapping[str, Any], root: Mapping[str, Any]) -> set[str]:
    """Return the JSON types that a field may have; none if anything goes."""
    found = alternatives(schema, root)
    return {kind for choice in found for kind in _own_types(choice)}


def _item_types(schema: Mapping[str, Any], root: Mapping[str, Any]) -> set[str] | None:
    """Return the JSON types of the items of a list; None if that is not said."""
    lists = (choice.get("items") for choice in alternatives(schema, root))
    nested = [items for items in lists if isinstance(items, dict)]
    return {kind for items in nested for kind in _types(items, root)} or None


def _own_types(schema: Mapping[str, Any]) -> set[str]:
    kind = schema.get("type", ())
    if not kind and "enum" in schema:
        return {"string"} if isinstance(schema["enum"][0], str) else {"integer"}
    return {kind} if isinstance(kind, str) else set(kind)


def _value(text: str, types: set[str] | None) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if not types:
        return value
    fits = any(
        isinstance(value, _JSON_TYPES.get(kind, ()))
        and not (isinstance(value, bool) and kind != "boolean")
        for kind in types
    )
    if fits or "string" not in types:
        return value
    return value if isinstance(value, str) and text.startswith('"') else text


async def _request_schema(kit: Kit, name: str) -> dict[str, Any]:
    service, _, endpoint = name.partition(".")
    schemas = await fetch_schemas(kit.bus, service)
    found: dict[str, Any] = schemas.get(endpoint, {}).get("request", {})
    return found


def _read_object(options: argparse.Namespace) -> dict[str, Any]:
    text, source = options.data, "--data"
    if "-" in options.pairs:
        if text is not None:
            raise UsageError("give the request by --data or by -, not both")
        text, source = sys.stdin.read(), "standard input"
    if text is None:
        return {}
    try:
        request = json.loads(text)
    except ValueError as exc:
        raise UsageError(f"{source} is not JSON: {exc}") from exc
    if not isinstance(request, dict):
        raise UsageError(f"{source} is not a JSON object, {{...}}")
    return request


def _shown(answer: Any, *, is_json: bool, is_line: bool = False) -> str:
    if isinstance(answer, bytes) and not is_json:
        return answer.decode(errors="backslashreplace")
    if isinstance(answer, str) and not is_json:
        return answer
    is_compact = is_line or is_json or not sys.stdout.isatty()
    return to_json(answer, is_compact=is_compact)
