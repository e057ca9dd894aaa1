"""JSON-RPC reaches the services on the bus."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import msgspec
import pytest

from examples.addsvc.service import AddService
from examples.ticker import Ticker
from kitmsg import Service, endpoint
from kitmsg.errors import ResourceExhausted
from kitmsg.schema import header
from kitmsg_gateways.http import GatewayOptions


class Calc(Service):
    """Does sums."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.noted: list[str] = []

    @endpoint
    async def add(self, a: int, b: int = 10) -> int:
        return a + b

    @endpoint
    async def note(self, text: str) -> None:
        self.noted.append(text)

    @endpoint
    async def crowd(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.001)
        self.running -= 1

    @endpoint
    async def crash(self) -> None:
        raise RuntimeError("secret-detail")

    @endpoint
    async def full(self) -> None:
        raise ResourceExhausted("come back", retry_after=2.5)

    @endpoint
    async def who(self, times: int, tenant: Annotated[str, header("X-Tenant")]) -> str:
        return tenant * times

    @endpoint(wire="gokit")
    async def double(self, n: int) -> int:
        if n > 100:
            raise ResourceExhausted("too much")
        return n * 2


class Other(Service):
    """Has a method of the same name."""

    @endpoint
    async def add(self, a: str, b: str) -> str:
        return a + b


class Client:
    """A JSON-RPC client of a gateway."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def __call__(
        self, method: str, params: Any = None, path: str = "/rpc", **options: Any
    ) -> Any:
        """Return the answer to one call, without the id, which is checked."""
        asked = {"jsonrpc": "2.0", "method": method, "id": 1}
        if params is not None:
            asked["params"] = params
        answer = await self.send(asked, path, **options)
        assert answer.pop("id") == 1
        assert answer.pop("jsonrpc") == "2.0"
        return answer.get("result") if "result" in answer else answer["error"]

    async def send(self, asked: Any, path: str = "/rpc", **options: Any) -> Any:
        """Return the answer to a request object or a batch."""
        response, body = await self.call("POST", path, json=asked, **options)
        assert response.status == (204 if body == b"" else 200)
        return body


@pytest.fixture
async def calc(hub):
    """A service on the bus."""
    calc = Calc()
    await hub.serve(calc)
    return calc


@pytest.fixture
async def rpc(hub, calc, start):
    """A JSON-RPC client of a gateway in front of it."""
    return Client(await start(hub))


async def test_a_call_is_answered(rpc):
    """By name and by position, with and without what has a default."""
    assert await rpc("calc.add", {"a": 1, "b": 2}) == 3
    assert await rpc("calc.add", [1, 2]) == 3
    assert await rpc("calc.add", [1]) == 11
    assert await rpc("add", {"a": 1}) == 11
    assert await rpc("add", {"a": 1}, "/rpc/calc") == 11
    assert await rpc("calc.note", ["x"]) is None
    assert rpc.call.server.api.rpc.counts[0] == 6


async def test_the_answer_is_as_go_kit_sends_it(rpc):
    """Down to the bytes."""
    reply = await rpc.call.raw(
        b"POST /rpc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Type: application/json; charset=utf-8\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
        b'36\r\n{"jsonrpc":"2.0","method":"double","params":{"N":4},"i\r\n'
        b'6\r\nd":0}\n\r\n0\r\n\r\n'
    )
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: application/json; charset=utf-8" in head
    assert body == b'{"jsonrpc":"2.0","result":{"v":8},"id":0}\n'


async def test_an_error_of_an_endpoint_in_go_kits_way_has_its_code(rpc):
    """As Go kit's server gives errors that know theirs."""
    error = await rpc("calc.double", {"n": 500})
    assert (error["code"], error["message"]) == (-32008, "too much")


@pytest.mark.parametrize(
    ("method", "params", "number", "words"),
    [
        ("calc.nothing", {}, -32601, "Method calc.nothing was not found."),
        ("nothing", {}, -32601, "was not found"),
        ("", {}, -32601, "was not found"),
        ("calc.add", {"a": "x"}, -32602, "int"),
        ("calc.add", {}, -32602, "a"),
        ("calc.add", {"a": 1, "c": 2}, -32602, "c"),
        ("calc.add", [1, 2, 3], -32602, "calc.add takes a, b"),
        ("calc.full", {}, -32008, "come back"),
        ("calc.crash", {}, -32603, "request id"),
    ],
)
async def test_what_is_wrong_has_a_number(rpc, method, params, number, words):
    """The specification's where it has one, and a sentence."""
    error = await rpc(method, params)
    assert error["code"] == number
    assert words in error["message"]
    assert "secret" not in json.dumps(error)
    assert rpc.call.server.api.rpc.counts[number] == 1


async def test_an_error_says_what_else_is_known(rpc, hub):
    """Code, field, time to wait, and the fields of a service's own error."""
    await hub.serve(AddService())
    data = (await rpc("calc.full"))["data"]
    assert (data["code"], data["retry_after"]) == ("resource_exhausted", 2.5)
    data = (await rpc("calc.add", {"a": "x"}))["data"]
    assert data["field"] == "a"
    assert (await rpc("calc.ad"))["data"] == {"did_you_mean": ["calc.add"]}
    error = await rpc("addsvc.sum", [2**31 - 1, 1])
    assert (error["code"], error["data"]["error"]) == (-32011, "IntOverflow")
    assert error["data"]["details"] == {"a": 2**31 - 1, "b": 1}
    assert (await rpc("concaat"))["data"] == {"did_you_mean": ["concat"]}


async def test_a_batch_is_answered_in_order(rpc, calc):
    """Errors in their places; notifications run and are left out."""
    answers = await rpc.send(
        [
            {"jsonrpc": "2.0", "method": "calc.add", "params": [1, 2], "id": "one"},
            {"jsonrpc": "2.0", "method": "calc.note", "params": ["x"]},
            {"foo": "boo"},
            {"jsonrpc": "2.0", "method": "calc.nothing", "id": 5},
            {"jsonrpc": "2.0", "method": "calc.nothing"},
            {"jsonrpc": "2.0", "method": "calc.add", "params": [3], "id": None},
        ]
    )
    assert [answer["id"] for answer in answers] == ["one", None, 5, None]
    assert [answers[0]["result"], answers[3]["result"]] == [3, 13]
    assert [a["error"]["code"] for a in answers[1:3]] == [-32600, -32601]
    assert calc.noted == ["x"]


async def test_notifications_alone_are_answered_with_nothing(rpc, calc):
    """One or several: 204."""
    one = {"jsonrpc": "2.0", "method": "calc.note", "params": {"text": "x"}}
    assert await rpc.send(one) == b""
    assert await rpc.send([one, one]) == b""
    assert calc.noted == ["x", "x", "x"]


async def test_a_batch_runs_a_few_at_a_time(hub, calc, start):
    """Not one by one, and not all at once."""
    rpc = Client(await start(hub, rpc_concurrency=3))
    one = {"jsonrpc": "2.0", "method": "calc.crowd", "id": 1}
    assert len(await rpc.send([one] * 20)) == 20
    assert calc.most == 3


async def test_a_batch_may_be_too_long(hub, calc, start):
    """By the option."""
    rpc = Client(await start(hub, rpc_max_batch=2))
    answer = await rpc.send([1, 2, 3])
    assert (answer["error"]["code"], answer["id"]) == (-32600, None)


async def test_a_name_that_two_services_have_is_no_guess(rpc, hub, until):
    """Their full names are told; at a service's own path it is clear."""
    await hub.serve(Other())
    await until(lambda: "other" in rpc.call.server.table.services)
    await until(lambda: len({e.service for e in rpc.call.server.table.endpoints}) == 2)
    error = await rpc("add", [1])
    assert error["code"] == -32601
    assert error["data"] == {"did_you_mean": ["calc.add", "other.add"]}
    assert await rpc("add", [1], "/rpc/calc") == 11
    assert await rpc("add", ["1", "2"], "/rpc/other") == "12"
    response, _ = await rpc.call("POST", "/rpc/nobody", json={})
    assert response.status == 404


async def test_a_method_may_have_another_name(hub, calc, start):
    """By the option, checked when the gateway is made."""
    rpc = Client(await start(hub, rpc_methods=("Calc.Add=calc.add", "plus=calc.add")))
    assert await rpc("Calc.Add", [1]) == 11
    assert await rpc("plus", [1]) == 11
    with pytest.raises(ValueError, match="METHOD=SERVICE.ENDPOINT"):
        GatewayOptions(rpc_methods=("plus",))


async def test_a_header_is_a_parameter_here_too(rpc):
    """And cannot be given in the params."""
    tenant = {"X-Tenant": "a"}
    assert await rpc("calc.who", [3], headers=tenant) == "aaa"
    assert await rpc("calc.who", {"times": 2}, headers=tenant) == "aa"
    error = await rpc("calc.who", {"times": 2, "tenant": "b"}, headers=tenant)
    assert "X-Tenant" in error["message"]
    error = await rpc("calc.who", [2])
    assert (error["code"], error["data"]["field"]) == (-32602, "X-Tenant")


async def test_http_itself_may_refuse(rpc):
    """Method, type and length are judged before JSON-RPC is."""
    response, _ = await rpc.call("GET", "/rpc")
    assert (response.status, response.headers["Allow"]) == (405, "OPTIONS, POST")
    response, _ = await rpc.call("OPTIONS", "/rpc")
    assert (response.status, response.headers["Allow"]) == (204, "OPTIONS, POST")
    response, _ = await rpc.call("POST", "/rpc", data=b"{}")
    assert response.status == 415
    reply = await rpc.call.raw(
        b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2000000\r\nConnection: close\r\n\r\n"
    )
    assert reply.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("kind", ["application/json-rpc", "application/x+json", ""])
async def test_other_names_of_json_are_taken(rpc, kind):
    """As clients send them; without a type it is JSON."""
    data = b'{"jsonrpc":"2.0","method":"calc.add","params":[1],"id":1}'
    headers = {"Content-Type": kind} if kind else {}
    _, body = await rpc.call(
        "POST", "/rpc", data=data, headers=headers, skip_auto_headers=["Content-Type"]
    )
    assert body["result"] == 11


async def test_a_foreign_service_is_called_too(memory_bus, start, foreign):
    """By name; what it answers must be JSON to be passed on."""
    foreign("far", "far.do", "far.odd")
    memory_bus.subscribe("far.do", lambda m: memory_bus.publish(m.reply, m.data))
    memory_bus.subscribe("far.odd", lambda m: memory_bus.publish(m.reply, b"}{"))
    rpc = Client(await start(memory_bus))
    assert await rpc("far.do", {"x": [1]}) == {"x": [1]}
    assert await rpc("far.do") == {}
    assert "by name" in (await rpc("far.do", [1]))["message"]
    assert (await rpc("far.odd"))["code"] == -32603


class Rpc(Service):
    """Has the name of a path of the gateway."""

    @endpoint
    async def calc(self) -> str:
        return "mine"


async def test_a_service_named_rpc_keeps_its_paths(rpc, hub, until):
    """Then methods go by their full names only."""
    await hub.serve(Rpc())
    server = rpc.call.server
    await until(lambda: any(e.service == "rpc" for e in server.table.endpoints))
    assert (await rpc.call("POST", "/rpc/calc"))[1] == "mine"
    assert await rpc("rpc.calc") == "mine"


async def test_a_stream_is_no_method(rpc, hub, until):
    """JSON-RPC has one answer to one call, and says so."""
    await hub.serve(Ticker())
    server = rpc.call.server
    await until(lambda: any(e.service == "ticker" for e in server.table.endpoints))
    error = await rpc("ticker.watch", ["tea"])
    assert (error["code"], "streams" in error["message"]) == (-32601, True)


async def test_the_deadline_holds_for_each_call(hub, start):
    """As for any request over HTTP."""

    class Slow(Service):
        @endpoint
        async def wait(self) -> None:
            await asyncio.Event().wait()

    await hub.serve(Slow())
    rpc = Client(await start(hub))
    headers = {"X-Request-Timeout-Ms": "50"}
    error = await rpc("slow.wait", headers=headers)
    assert error["code"] == -32004
    assert msgspec.json.encode(error)
