"""Authentication of clients, as every door has it."""

from __future__ import annotations

import pytest

from kitmsg.auth import Refused
from kitmsg.auth.apikeys import digest
from kitmsg_gateways.edge.auth import Auth, Gate
from kitmsg_gateways.edge.options import AuthOptions


async def test_a_nameless_certificate_is_refused_where_one_is_needed(tmp_path):
    """That somebody has signed it does not say whose it is."""
    options = AuthOptions(tls_cert="c", tls_client_ca="a")
    auth = Auth(options, "")
    assert auth.is_on
    with pytest.raises(Refused, match="names its owner"):
        await auth.principal([], None)


async def test_an_api_key_has_two_ways(tmp_path):
    """``X-Api-Key`` for those who know it, and ``Authorization`` for all doors."""
    (tmp_path / "keys").write_text(f"billing:$sha256${digest('kit_1')}")
    auth = Auth(AuthOptions(api_keys=str(tmp_path / "keys")), "")
    for given in (auth.given([], ["kit_1"]), auth.given(["ApiKey kit_1"])):
        principal = await auth.principal(given)
        assert principal is not None
        assert (principal.name, principal.method) == ("billing", "key")
    with pytest.raises(Refused, match="not valid"):
        await auth.principal(auth.given(["Bearer x"], ["kit_1"]))


def test_a_gate_with_nothing_to_check_is_open():
    """So that a hot path may pass it by."""
    options = AuthOptions()
    assert Gate(Auth(options, ""), options).is_open
    options = AuthOptions(rate_limit=1.0)
    assert not Gate(Auth(options, ""), options).is_open
