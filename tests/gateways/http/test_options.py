"""What does not fit is one clear sentence, at the start."""

from __future__ import annotations

from typing import Any

import pytest

import kitmsg_gateways.http
from kitmsg.errors import InvalidArgument
from kitmsg_gateways.http import GatewayOptions


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": 0}, "timeout must be positive, not 0"),
        ({"max_connections": -1}, "max_connections must be positive"),
        ({"workers": 0}, "workers must be positive"),
        ({"rate_limit": -1.0}, "rate_limit must not be negative"),
        ({"jwt_leeway": float("nan")}, "jwt_leeway must not be negative"),
        ({"cors_max_age": float("inf")}, "cors_max_age must not be negative"),
        ({"tls_key": "k"}, "tls_key needs tls_cert"),
        ({"tls_client_ca": "k"}, "tls_client_ca needs tls_cert"),
        ({"tls_client_optional": True}, "tls_client_optional needs tls_client_ca"),
        ({"cors_credentials": True}, "cors_credentials needs cors_origins"),
        ({"jwt_issuer": "x"}, "jwt_issuer needs jwt_key or jwks_url"),
        (
            {"auth_public": ("/x",)},
            "auth_public needs jwt_key or jwks_url or basic_file",
        ),
        ({"rate_burst": 3}, "rate_burst needs rate_limit"),
        ({"principal_rate_limit": 3.0}, "principal_rate_limit needs jwt_key"),
        ({"jwt_key": "a", "jwks_url": "b"}, "two places for one thing"),
        ({"proxy_header": "via"}, "must be one of x-forwarded, forwarded"),
        ({"title": "a\r\nb"}, "title holds characters"),
        ({"cors_origins": "https://a.example"}, "cors_origins is a tuple of texts"),
        ({"auth_public": ("x",), "basic_file": "b"}, "'x' does not begin with /"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    """Each names the option and what to write."""
    with pytest.raises(ValueError, match=said):
        GatewayOptions(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"jwt_key": "/nowhere"}, "JWT key: cannot read /nowhere"),
        ({"jwt_key": "env:NO_SUCH"}, "NO_SUCH is not set"),
        ({"jwks_url": "http://id.example"}, "JWKS URL"),
        ({"jwks_url": "https://id.example", "jwt_algorithms": ("HS256",)}, "in a file"),
        (
            {"jwks_url": "https://id.example", "jwt_algorithms": ("none",)},
            "'none' is none",
        ),
        ({"basic_file": "/nowhere"}, "cannot read the passwords in /nowhere"),
        ({"trusted_proxies": ("x",)}, "'x' is no network"),
        ({"cors_origins": ("x",)}, "'x' is no origin"),
        ({"tls_cert": "/nowhere"}, "cannot use the certificate in /nowhere"),
    ],
)
async def test_files_and_words_that_do_not_fit(memory_bus, options, said):
    """Found when the gateway starts, and nothing is left running."""
    with pytest.raises(InvalidArgument, match=said):
        await kitmsg_gateways.http.serve(memory_bus, GatewayOptions(port=0, **options))


async def test_one_process_is_not_several(memory_bus):
    """The command starts workers; a server in a process of somebody's cannot."""
    with pytest.raises(InvalidArgument, match="kitmsg gateway http --workers"):
        await kitmsg_gateways.http.serve(memory_bus, GatewayOptions(port=0, workers=2))


def test_everything_is_off_by_default() -> None:
    """A gateway without options looks at the name and page of a request, no further."""
    from kitmsg_gateways.edge.auth import Auth, Gate
    from kitmsg_gateways.edge.proxies import Proxies
    from kitmsg_gateways.http.filters import filters

    options = GatewayOptions()
    proxies = Proxies(options.trusted_proxies, options.proxy_header)
    gate = Gate(Auth(options, ""), options)
    assert [type(one).__name__ for one in filters(options, gate, proxies)] == ["Local"]
    options = GatewayOptions(jwt_key="env:PATH", jwt_algorithms=("HS256",))
    gate = Gate(Auth(options, ""), options)
    assert "Local" not in {type(o).__name__ for o in filters(options, gate, proxies)}
