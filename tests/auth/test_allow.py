"""Policies: who may call."""

from __future__ import annotations

import os
import time

import pytest

from kitmsg import Context
from kitmsg.auth import Principal
from kitmsg.auth.allow import (
    anyone,
    as_policy,
    casbin,
    custom,
    known,
    parse_policy,
    role,
    scope,
)
from kitmsg.errors import InvalidArgument

ANN = Principal("ann", "jwt", {"scope": "orders:read orders:write"})
BOB = Principal("bob", "basic", {"roles": ["admin", 7], "scp": ["x"]})
NOBODY = None


def by(principal: Principal | None, endpoint: str = "orders.place") -> Context:
    return Context(endpoint=endpoint, principal=principal)


@pytest.mark.parametrize(
    ("policy", "text", "let_in"),
    [
        (scope("orders:write"), "scope:orders:write", [ANN]),
        (scope("x"), "scope:x", [BOB]),
        (scope("orders"), "scope:orders", []),
        (role("admin"), "role:admin", [BOB]),
        (known, "known", [ANN, BOB]),
        (anyone, "anyone", [ANN, BOB, NOBODY]),
        (
            scope("orders:read") | role("admin"),
            "scope:orders:read | role:admin",
            [ANN, BOB],
        ),
        (
            scope("orders:read") & scope("orders:write"),
            "scope:orders:read scope:orders:write",
            [ANN],
        ),
        (scope("orders:read") & role("admin"), "scope:orders:read role:admin", []),
        (
            (scope("x") | scope("orders:read")) & known,
            "scope:x known | scope:orders:read known",
            [ANN, BOB],
        ),
    ],
)
async def test_a_policy_and_its_text_let_in_the_same(policy, text, let_in):
    """So that a door decides as the service does."""
    assert str(policy) == text
    read = parse_policy(text)
    assert read is not None
    assert str(read) == text
    for who in (ANN, BOB, NOBODY):
        assert await policy.permits(by(who)) == (who in let_in)
        if who is not None:
            assert read.may_permit(who) == (who in let_in)


@pytest.mark.parametrize(
    "text", ["custom", "casbin", "tenant:7", "scope:", "scope:é", "|"]
)
def test_what_a_door_does_not_understand_is_for_the_service(text):
    """It refuses nobody whom the service might let in."""
    alone, more = parse_policy(text), parse_policy(f"{text} role:admin")
    assert alone is not None
    assert more is not None
    assert alone.may_permit(ANN)
    assert not more.may_permit(ANN) or text == "|"


def test_no_text_is_no_policy():
    """As of services in other languages."""
    assert parse_policy("") is None
    assert parse_policy("  ") is None


async def test_a_function_decides_plain_or_async():
    """With the context: the caller, the endpoint, the headers."""

    async def is_bob(ctx: Context) -> bool:
        return bool(ctx.principal.name == "bob")

    assert await as_policy(lambda ctx: ctx.endpoint == "orders.place").permits(by(ANN))
    assert await as_policy(is_bob).permits(by(BOB))
    assert not await as_policy(is_bob).permits(by(ANN))
    assert await (role("none") | custom(is_bob)).permits(by(BOB))
    assert str(as_policy(is_bob)) == "custom"


@pytest.mark.parametrize(
    "given", ["scope:x", 7, [scope("x")], scope, role, casbin, Principal]
)
def test_what_is_no_policy_is_refused(given):
    """With what to write instead."""
    with pytest.raises(TypeError, match=r"allow takes a policy|call it, as"):
        as_policy(given)


@pytest.mark.parametrize("name", ["", "a b", "a|b", "é", None])
def test_a_scope_is_one_word(name):
    """RFC 6749, section 3.3; two of them are joined by &."""
    for make in (scope, role):
        with pytest.raises(ValueError, match="takes one word"):
            make(name)


MODEL = """\
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && r.obj == p.obj && (r.act == p.act || p.act == "*")
"""


@pytest.fixture
def files(tmp_path):
    """A model with roles, and a policy."""
    model, policy = tmp_path / "model.conf", tmp_path / "policy.csv"
    model.write_text(MODEL)
    policy.write_text("p, clerk, orders, place\ng, ann, clerk\n")
    return model, policy


async def test_casbin_decides_by_its_files(files):
    """The caller is the subject, the service the object, the endpoint the action."""
    policy = casbin(*map(str, files))
    assert await policy.permits(by(ANN))
    assert not await policy.permits(by(ANN, "orders.refund"))
    assert not await policy.permits(by(ANN, "billing.place"))
    assert not await policy.permits(by(BOB))
    assert not await policy.permits(by(NOBODY))


async def test_casbin_follows_its_files(files, monkeypatch, caplog):
    """Within a second; while a file is broken, what was read before goes on."""
    now = [time.monotonic() + 10]
    monkeypatch.setattr("kitmsg.auth.allow.time.monotonic", lambda: now[0])
    policy = casbin(*map(str, files))
    assert not await policy.permits(by(BOB))
    files[1].write_text("p, clerk, orders, *\ng, bob, clerk\n")
    now[0] += 2
    assert await policy.permits(by(BOB, "orders.refund"))
    assert not await policy.permits(by(ANN))
    files[0].write_text("nonsense")
    now[0] += 2
    assert await policy.permits(by(BOB))
    assert "cannot be used" in caplog.text
    os.unlink(files[0])
    now[0] += 2
    assert await policy.permits(by(BOB))


def test_casbin_without_its_files_is_a_sentence(tmp_path):
    """Where the class is defined."""
    with pytest.raises(InvalidArgument, match="these cannot be used"):
        casbin(str(tmp_path / "none"), str(tmp_path / "none.csv"))
