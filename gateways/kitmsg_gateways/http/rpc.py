"""``POST /rpc``: JSON-RPC 2.0 to the endpoints on the bus.

A method is ``service.endpoint``; or the endpoint's name alone where one service only has it
or the options say which is meant; or, at ``/rpc/{service}``, an endpoint of that service.
What the bytes mean is in `jsonrpc`; deadlines, headers and credentials are those of the
HTTP request, for each call of a batch.
"""

from __future__ import annotations

import asyncio
import difflib
from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from kitmsg.codec import DECODE_ERRORS, JSON, by_content_type
from kitmsg.errors import DataLoss, InvalidArgument
from kitmsg.metrics.families import counter
from kitmsg_gateways.http import jsonrpc
from kitmsg_gateways.http.call import ask, asked_timeout, fields_of, given_by
from kitmsg_gateways.http.errors import Problem, refusal
from kitmsg_gateways.http.jsonrpc import Call, RpcError
from kitmsg_gateways.http.methods import left_with
from kitmsg_gateways.http.spans import CallSpans

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from kitmsg.message import Message
    from kitmsg.metrics.families import Family
    from kitmsg_gateways.edge.auth import Gate
    from kitmsg_gateways.edge.calls import Callers
    from kitmsg_gateways.edge.catalogue import Catalogue
    from kitmsg_gateways.http.methods import Mounted, Table
    from kitmsg_gateways.http.options import GatewayOptions
    from kitmsg_gateways.http.visit import Visit

__all__ = ["PATH", "Rpc"]

PATH: Final = "/rpc"
_UNDER: Final = f"{PATH}/"
_ALLOW: Final = "OPTIONS, POST"
_NO_CONTENT: Final = 204
_ALIASES: Final = ("application/json-rpc", "application/jsonrequest")
_NO_STORE: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_MAX_HINT_CHARS: Final = 120
_positions = msgspec.json.Decoder(list[msgspec.Raw]).decode
_check_json = msgspec.json.Decoder().decode


class Rpc:
    """Answers JSON-RPC.

    Attributes:
        counts: Calls, by the code of their error or 0.
    """

    def __init__(
        self,
        callers: Callers,
        catalogue: Catalogue[Table],
        options: GatewayOptions,
        read: Callable[[Visit], Awaitable[bytes]],
        gate: Gate,
    ) -> None:
        self._gate = gate
        self._callers = callers
        self._catalogue = catalogue
        self.counts: Counter[int] = Counter()
        self._options = options
        self._read = read
        self._names = dict(text.split("=", 1) for text in options.rpc_methods)
        self._methods: _Methods | None = None
        self._spans = CallSpans()

    def service(self, path: str) -> str | None:
        """Return the service whose methods a path has: "" for all.

        None for a path that is not JSON-RPC's.  A service that is itself called ``rpc``
        keeps its paths.
        """
        if path == PATH:
            return ""
        services, name = self._catalogue.table.services, path.removeprefix(_UNDER)
        if name == path or PATH[1:] in services:
            return None

        def find(table: Table) -> Mounted | None:
            return next((one for one in table.endpoints if one.service == name), None)

        is_one = name in services or left_with(self._catalogue, find)
        return name if is_one else None

    def collect(self) -> Iterator[Family]:
        """Yield metric families."""
        calls = counter("kitmsg_gateway_rpc_calls_total", "JSON-RPC calls, by code.")
        for number, count in sorted(self.counts.items()):
            calls.add(count, gateway="http", code=str(number))
        yield calls

    async def answer(self, visit: Visit, service: str) -> web.Response:
        """Answer one request, with a call or a batch of them in its body.

        Args:
            visit: The request.
            service: Whose methods; "" for all.

        Raises:
            Problem: It is no POST, its body is no JSON by its type, or cannot be had.
        """
        headers = {"X-Request-Id": visit.id, **_NO_STORE}
        if visit.request.method == "OPTIONS":
            return web.Response(
                status=_NO_CONTENT, headers={**headers, "Allow": _ALLOW}
            )
        _check(visit.request)
        body = await self._read(visit)
        try:
            items, is_batch = jsonrpc.parse(body, self._options.rpc_max_batch)
        except RpcError as exc:
            answers, is_batch = [self._failed(exc)], False
        else:
            answers = await self._answers(items, service, visit)
        if not answers:  # notifications only
            return web.Response(status=_NO_CONTENT, headers=headers)
        # Go's encoder ends with a line break, and so does Go kit's server.
        found = (jsonrpc.batch(answers) if is_batch else answers[0]) + b"\n"
        headers["Content-Type"] = jsonrpc.CONTENT_TYPE
        return web.Response(body=found, headers=headers)

    async def _answers(
        self, items: list[Call | RpcError], service: str, visit: Visit
    ) -> list[bytes]:
        """Return the answers, in the order of the calls; none to notifications."""
        if len(items) == 1:
            answers = [await self._one(items[0], service, visit, is_counted=True)]
        else:
            few = asyncio.Semaphore(self._options.rpc_concurrency)

            async def run(number: int, item: Call | RpcError) -> bytes:
                async with few:
                    return await self._one(item, service, visit, is_counted=not number)

            answers = await asyncio.gather(
                *(run(number, item) for number, item in enumerate(items))
            )
        return [answer for answer in answers if answer]

    async def _one(
        self,
        item: Call | RpcError,
        service: str,
        visit: Visit,
        *,
        is_counted: bool,
    ) -> bytes:
        """Return the answer to one call; b"" to a notification.

        Rates count calls, not requests; the first is counted already.
        """
        if isinstance(item, RpcError):
            return self._failed(item)
        try:
            if not is_counted:
                self._gate.count(visit.address, visit.principal)
            result = await self._call(item, service, visit)
        except RpcError as exc:
            error = exc
        except Exception as exc:  # noqa: BLE001  # the last line of defence answers
            error = _error(Problem.of(exc, visit.id), visit.id)
        else:
            self.counts[0] += 1
            return b"" if item.id is None else jsonrpc.success(item.id, result)
        error.id = item.id or error.id
        answer = self._failed(error)
        return b"" if item.id is None else answer

    def _failed(self, error: RpcError) -> bytes:
        self.counts[error.number] += 1
        return jsonrpc.failure(error)

    async def _call(self, call: Call, service: str, visit: Visit) -> bytes:
        mounted = self._find(call.method, service)
        callers, headers = self._callers, visit.request.headers
        seconds = callers.seconds(asked_timeout(headers), mounted)
        params = _by_name(call.params, mounted)
        if not params or mounted.parameters.headers:
            params = mounted.parameters.build({}, "", params, JSON, headers)
        fields = fields_of(visit, self._options)
        with self._spans.around(mounted.dotted, call.id):
            reply = await ask(
                callers,
                mounted,
                JSON,
                params,
                seconds=seconds,
                fields=fields,
                principal=visit.principal,
                given=given_by(callers, headers),
            )
            return _result(reply, mounted)

    def _find(self, method: str, service: str) -> Mounted:
        table = self._catalogue.table
        if self._methods is None or self._methods.table is not table:
            self._methods = _Methods(table, self._names)
        try:
            return self._methods.find(method, service)
        except RpcError:
            gone = left_with(
                self._catalogue,
                lambda former: _Methods(former, self._names).get(method, service),
            )
            if gone is None:
                raise
            raise gone from None


class _Methods:
    """The endpoints of a table by the names that methods have."""

    def __init__(self, table: Table, names: Mapping[str, str]) -> None:
        self.table = table
        self._names = names
        self._full = {one.dotted: one for one in table.endpoints}
        self._bare: dict[str, list[Mounted]] = {}
        for one in table.endpoints:
            self._bare.setdefault(one.name, []).append(one)

    def find(self, method: str, service: str) -> Mounted:
        """Return the endpoint that a method names; `service` is "" for all of them.

        Raises:
            RpcError: There is none, there are several, or it streams.
        """
        name = f"{service}.{method}" if service else self._names.get(method, method)
        found = self._full.get(name)
        several = [] if service else self._bare.get(name, [])
        if found is None and len(several) == 1:
            (found,) = several
        if found is None:
            known = [one.dotted for one in several]
            names = [*self._full, *(() if service else self._bare)]
            near = difflib.get_close_matches(name[:_MAX_HINT_CHARS], names, n=1)
            raise _not_found(method, known or near)
        if found.stream:
            raise RpcError(
                jsonrpc.METHOD_NOT_FOUND,
                f"Method {method[:_MAX_HINT_CHARS]} streams, which JSON-RPC cannot do.",
            )
        return found

    def get(self, method: str, service: str) -> Mounted | None:
        """Return what `find` does; None where it raises."""
        try:
            return self.find(method, service)
        except RpcError:
            return None


def _not_found(method: str, near: list[str]) -> RpcError:
    # Go kit's words.
    text = f"Method {method[:_MAX_HINT_CHARS]} was not found."
    hint = {"did_you_mean": near} if near else None
    return RpcError(jsonrpc.METHOD_NOT_FOUND, text, hint)


def _by_name(params: bytes, mounted: Mounted) -> bytes:
    """Return params as an object: by position they are in the order of the fields.

    Raises:
        RpcError: There are more than there are fields, or those are not known.
    """
    if not params.startswith(b"["):
        return params
    values = _positions(params)
    known = mounted.parameters
    names = [name for name in known.properties if name not in known.headers]
    if len(values) > len(names):
        takes = ", ".join(names) or "none"
        text = f"{len(values)} params by position; {mounted.dotted}"
        text += f" takes {takes}" if mounted.schema else " takes them by name"
        raise RpcError(jsonrpc.INVALID_PARAMS, text)
    return msgspec.json.encode(dict(zip(names, values, strict=False)))


def _check(request: web.BaseRequest) -> None:
    """Check that a request is a POST of JSON.

    Raises:
        Problem: 405 or 415.  A web page of another origin cannot send JSON unasked, so
            other types are not taken for it.
    """
    if request.method != "POST":
        raise refusal(
            405,
            "JSON-RPC goes by POST",
            headers={"Allow": _ALLOW},
        )
    named = request.headers.get("Content-Type", "")
    try:
        is_json = not named or by_content_type(named) is JSON
    except InvalidArgument:
        is_json = named.partition(";")[0].strip().lower() in _ALIASES
    if not is_json:
        raise refusal(
            415,
            f"Content-Type {named[:80]!r} is not JSON; send application/json",
            field="Content-Type",
            headers={"Accept": JSON.content_type},
        )


def _result(reply: Message, mounted: Mounted) -> bytes:
    """Return a result as JSON.

    Raises:
        DataLoss: It is something else.
    """
    # A kitmsg service answers in the codec it was asked in; of others nobody knows.
    if mounted.wire == "kit" and mounted.is_kit:
        return reply.data
    try:
        _check_json(reply.data or b"null")
    except DECODE_ERRORS:
        raise DataLoss(f"the reply of {mounted.dotted} is not JSON") from None
    return reply.data


def _error(problem: Problem, id_: str) -> RpcError:
    """Return the error that stands for a problem."""
    data = {"code": problem.code.value, "request_id": id_, **problem.facts()}
    return RpcError(jsonrpc.number_of(problem), problem.detail, data)
