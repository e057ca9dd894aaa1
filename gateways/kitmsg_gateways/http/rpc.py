"""``POST /rpc``: JSON-RPC 2.0 to the endpoints on the bus.

A method is ``service.endpoint``; or the endpoint's name alone where one service only has it
or the options say which is meant; or, at ``/rpc/{service}``, an endpoint of that service.
What the bytes mean is in `jsonrpc`; deadlines, headers and credentials are those of the
HTTP request, for each call of a batch.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from kitmsg.codec import DECODE_ERRORS, JSON, by_content_type
from kitmsg.errors import Code, DataLoss, InvalidArgument, KitError
from kitmsg_gateways.http import jsonrpc
from kitmsg_gateways.http.call import ask, asked_timeout, fields_of
from kitmsg_gateways.http.jsonrpc import Call, RpcError
from kitmsg_gateways.http.methods import Methods, by_name
from kitmsg_gateways.http.mount import has_left
from kitmsg_gateways.http.problem import Problem, unexpected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kitmsg.message import Message
    from kitmsg_gateways.edge.calls import Callers
    from kitmsg_gateways.http.edge import Visit
    from kitmsg_gateways.http.metrics import Metrics
    from kitmsg_gateways.http.mount import Mounted, Mounts, Table
    from kitmsg_gateways.http.options import GatewayOptions

__all__ = ["PATH", "Rpc"]

PATH: Final = "/rpc"
_UNDER: Final = f"{PATH}/"
_ALLOW: Final = "OPTIONS, POST"
_NO_CONTENT: Final = 204
_NOT_ALLOWED: Final = 405
_UNSUPPORTED: Final = 415
_ALIASES: Final = ("application/json-rpc", "application/jsonrequest")
_NO_STORE: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_check_json = msgspec.json.Decoder().decode


class Rpc:
    """Answers JSON-RPC.

    Args:
        callers: Call the endpoints.
        mounts: The endpoints.
        metrics: Counts the calls.
        options: Limits, and which method names mean which endpoints.
        read: Returns the body of a request.
    """

    def __init__(
        self,
        callers: Callers,
        mounts: Mounts,
        metrics: Metrics,
        options: GatewayOptions,
        read: Callable[[Visit], Awaitable[bytes]],
    ) -> None:
        self._callers = callers
        self._mounts = mounts
        self._metrics = metrics
        self._options = options
        self._read = read
        self._names = dict(text.split("=", 1) for text in options.rpc_methods)
        self._methods: Methods | None = None

    def service(self, path: str) -> str | None:
        """Return the service whose methods a path has: "" for all.

        None for a path that is not JSON-RPC's.  A service that is itself called ``rpc``
        keeps its paths.
        """
        if path == PATH:
            return ""
        if not path.startswith(_UNDER):
            return None
        services = self._mounts.table.services
        name = path.removeprefix(_UNDER)
        is_one = name in services or self._has_left(name)
        return name if is_one and PATH[1:] not in services else None

    def _has_left(self, service: str) -> bool:
        def find(table: Table) -> Mounted:
            found = [one for one in table.endpoints if one.service == service]
            if not found:
                raise RpcError(jsonrpc.METHOD_NOT_FOUND, service)
            return found[0]

        return bool(self._mounts.lost(find))

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
            answers = [await self._one(items[0], service, visit)]
        else:
            few = asyncio.Semaphore(self._options.rpc_concurrency)

            async def run(item: Call | RpcError) -> bytes:
                async with few:
                    return await self._one(item, service, visit)

            answers = await asyncio.gather(*map(run, items))
        return [answer for answer in answers if answer]

    async def _one(self, item: Call | RpcError, service: str, visit: Visit) -> bytes:
        """Return the answer to one call; b"" to a notification."""
        if isinstance(item, RpcError):
            return self._failed(item)
        try:
            result = await self._call(item, service, visit)
        except RpcError as exc:
            error = exc
        except Problem as exc:
            error = _error(exc, visit.id)
        except KitError as exc:
            error = _error(Problem.of(exc, visit.id), visit.id)
        except Exception as exc:  # noqa: BLE001  # the last line of defence answers
            error = _error(unexpected(exc, visit.id), visit.id)
        else:
            self._metrics.count_rpc(0)
            return b"" if item.id is None else jsonrpc.success(item.id, result)
        error.id = item.id or error.id
        answer = self._failed(error)
        return b"" if item.id is None else answer

    def _failed(self, error: RpcError) -> bytes:
        self._metrics.count_rpc(error.number)
        return jsonrpc.failure(error)

    async def _call(self, call: Call, service: str, visit: Visit) -> bytes:
        mounted = self._find(call.method, service)
        callers, headers = self._callers, visit.request.headers
        seconds = callers.seconds(asked_timeout(headers), mounted)
        params = by_name(call.params, mounted)
        if not params or mounted.parameters.headers:
            params = mounted.parameters.build({}, "", params, JSON, headers)
        fields = fields_of(
            headers,
            request_id=visit.id,
            forward_authorization=self._options.forward_authorization,
            principal=visit.principal,
        )
        reply = await ask(
            callers, mounted, JSON, params, seconds=seconds, fields=fields
        )
        return _result(reply, mounted)

    def _find(self, method: str, service: str) -> Mounted:
        table = self._mounts.table
        if self._methods is None or self._methods.table is not table:
            self._methods = Methods(table, self._names)
        try:
            return self._methods.find(method, service)
        except RpcError:
            gone = self._mounts.lost(
                lambda former: Methods(former, self._names).find(method, service)
            )
            if not gone:
                raise
            raise has_left(gone) from None


def _check(request: web.BaseRequest) -> None:
    """Check that a request is a POST of JSON.

    Raises:
        Problem: 405 or 415.  A web page of another origin cannot send JSON unasked, so
            other types are not taken for it.
    """
    if request.method != "POST":
        raise Problem(
            _NOT_ALLOWED,
            Code.UNIMPLEMENTED,
            "JSON-RPC goes by POST",
            headers={"Allow": _ALLOW},
        )
    named = request.headers.get("Content-Type", "")
    try:
        is_json = not named or by_content_type(named) is JSON
    except InvalidArgument:
        is_json = named.partition(";")[0].strip().lower() in _ALIASES
    if not is_json:
        raise Problem(
            _UNSUPPORTED,
            Code.INVALID_ARGUMENT,
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
        raise DataLoss(
            f"the reply of {mounted.service}.{mounted.name} is not JSON"
        ) from None
    return reply.data


def _error(problem: Problem, id_: str) -> RpcError:
    """Return the error that stands for a problem."""
    data = {"code": problem.code.value, "request_id": id_, **problem.facts()}
    return RpcError(jsonrpc.number_of(problem), problem.detail, data)
