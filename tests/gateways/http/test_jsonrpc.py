"""JSON-RPC 2.0: what is a call, and what an answer looks like."""

from __future__ import annotations

import json

import pytest

from kitmsg.errors import Code
from kitmsg_gateways.http import jsonrpc
from kitmsg_gateways.http.errors import Problem
from kitmsg_gateways.http.jsonrpc import Call, RpcError, parse

ONE = b'{"jsonrpc":"2.0","method":"m","params":{"a":1},"id":7}'


def test_a_call_is_read():
    """Params and id stay the bytes they are."""
    assert parse(ONE, 10) == ([Call("m", b'{"a":1}', b"7")], False)
    (call,), is_batch = parse(b" [" + ONE + b"]\n", 10)
    assert (call, is_batch) == (Call("m", b'{"a":1}', b"7"), True)


@pytest.mark.parametrize("params", [b"", b', "params": null'])
def test_params_may_be_left_out(params):
    """Go kit's client says null."""
    body = b'{"jsonrpc":"2.0","method":"m","id":7' + params + b"}"
    assert parse(body, 10)[0] == [Call("m", b"", b"7")]


@pytest.mark.parametrize(
    "id_",
    [
        b"1",
        b"-1",
        b"0",
        b"1.50",
        b"12345678901234567890123",
        b'"a"',
        b'"\\u00e9"',
        b'""',
        b"null",
    ],
)
def test_an_id_comes_back_as_it_was(id_):
    """To the last digit."""
    body = b'{"jsonrpc":"2.0","method":"m","id": %b }' % id_
    (call,), _ = parse(body, 10)
    assert isinstance(call, Call)
    assert call.id == id_
    assert jsonrpc.success(id_, b"3") == (b'{"jsonrpc":"2.0","result":3,"id":%b}' % id_)


def test_without_an_id_it_is_a_notification():
    """An id of null is one all the same."""
    (call,), _ = parse(b'{"jsonrpc":"2.0","method":"m"}', 10)
    assert isinstance(call, Call)
    assert call.id is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"jsonrpc":"2.0","method":"m","id":1,}',
        b"\xff",
        b'{"jsonrpc":"2.0","method":"\xff","id":1}',
        b'{"jsonrpc":"2.0","method":"m","id":"\xff"}',
        b"[1,",
        b"[" * 5000,
        b'{"a":' * 5000,
        ONE + ONE,
    ],
)
def test_what_is_no_json_is_a_parse_error(body):
    """Without a guess at an id."""
    with pytest.raises(RpcError) as caught:
        parse(body, 10)
    assert (caught.value.number, caught.value.id) == (-32700, b"null")


@pytest.mark.parametrize(
    ("item", "id_"),
    [
        (b"1", b"null"),
        (b'"x"', b"null"),
        (b"null", b"null"),
        (b"{}", b"null"),
        (b'{"jsonrpc":"2.0","id":1}', b"1"),
        (b'{"jsonrpc":"2.0","method":1,"id":1}', b"1"),
        (b'{"jsonrpc":"1.0","method":"m","id":1}', b"1"),
        (b'{"method":"m","id":1}', b"1"),
        (b'{"jsonrpc":2.0,"method":"m","id":1}', b"1"),
        (b'{"jsonrpc":"2.0","method":"m","params":1,"id":1}', b"1"),
        (b'{"jsonrpc":"2.0","method":"m","params":"x","id":"a"}', b'"a"'),
        (b'{"jsonrpc":"2.0","method":"m","id":{}}', b"null"),
        (b'{"jsonrpc":"2.0","method":"m","id":[1]}', b"null"),
        (b'{"jsonrpc":"2.0","method":"m","id":true}', b"null"),
        (b'{"jsonrpc":"2.0","method":"m","id":"%b"}' % (b"a" * 2000), b"null"),
    ],
)
def test_what_is_no_call_is_an_invalid_request(item, id_):
    """With its id, where that can be told; alone and in a batch."""
    for body, expected in ((item, False), (b"[%b]" % item, True)):
        (error,), is_batch = parse(body, 10)
        assert is_batch is expected
        assert isinstance(error, RpcError)
        assert (error.number, error.id) == (-32600, id_)


@pytest.mark.parametrize(("body", "words"), [(b"[]", "empty"), (b"[1,2,3]", "3 calls")])
def test_a_batch_has_bounds(body, words):
    """Neither empty nor endless."""
    with pytest.raises(RpcError, match=words) as caught:
        parse(body, 2)
    assert caught.value.number == -32600


def test_an_answer_is_written_as_go_kit_writes_it():
    """Same members, same order."""
    assert jsonrpc.success(b"1", b'{"v":3}') == (
        b'{"jsonrpc":"2.0","result":{"v":3},"id":1}'
    )
    assert jsonrpc.success(b"1", b"").endswith(b'"result":null,"id":1}')
    assert jsonrpc.failure(RpcError(-32601, "Method x was not found.", id=b"0")) == (
        b'{"jsonrpc":"2.0","error":{"code":-32601,'
        b'"message":"Method x was not found."},"id":0}'
    )
    assert json.loads(jsonrpc.failure(RpcError(-1, "m", {"a": 1})))["error"][
        "data"
    ] == {"a": 1}
    assert jsonrpc.batch([b"1", b"2"]) == b"[1,2]"


def test_every_code_has_its_number():
    """Those of the specification where they mean the same, else the server's own range."""
    numbers = {
        code: jsonrpc.number_of(Problem(code.http, code, "", error="")) for code in Code
    }
    assert numbers[Code.INVALID_ARGUMENT] == -32602
    assert numbers[Code.INTERNAL] == numbers[Code.UNKNOWN] == -32603
    assert numbers[Code.NOT_FOUND] == -32005
    assert all(-32099 <= n <= -32000 or n in (-32602, -32603) for n in numbers.values())
    own = Problem(400, Code.INVALID_ARGUMENT, "", error="TwoZeroes")
    assert jsonrpc.number_of(own) == -32003


def test_go_kits_older_client_is_understood():
    """Version 0.10 sends an empty version; Go kit's server does not look at it."""
    body = b'{"jsonrpc":"","method":"sum","params":{"A":1,"B":2},"id":1}'
    assert parse(body, 1) == ([Call("sum", b'{"A":1,"B":2}', b"1")], False)
