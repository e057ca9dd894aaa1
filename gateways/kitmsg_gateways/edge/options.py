"""Options that every door has, and the checks that options have in common.

A gateway's `GatewayOptions` inherits the groups that it needs and adds its own fields.
Each field is a flag of the command; its help is its line under ``Attributes``, in the
class that declares it (`kitmsg.cli.fields`).
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self, get_origin, get_type_hints

from kitmsg.auth.signing import AUDIENCE
from kitmsg.discovery.claims import SubjectPolicy
from kitmsg.errors import InvalidArgument
from kitmsg.logs.access import ACCESS_FORMATS, LINE

__all__ = [
    "AuthOptions",
    "CallOptions",
    "EdgeOptions",
    "EventOptions",
    "ListenOptions",
    "Options",
    "ShownOptions",
    "SocketOptions",
    "TlsOptions",
]

# Options that switch authentication on.
_AUTH: Final = ("jwt_key", "jwks_url", "basic_file", "api_keys", "tls_client_ca")


_PATTERN: Final = re.compile(r"[A-Za-z0-9_*-]+(\.[^\s]+)?")
_EVENT: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(:(publish|read))?")


@dataclass(frozen=True, kw_only=True)
class Options:
    """A frozen dataclass that checks itself.

    Numbers must be positive, and tuples no single text.  A class says
    what else holds of its own fields:

        ZERO     numbers that may be 0, which switches something off
        CHOICES  the words that a field may be
        NEEDS    fields that make no sense without another: (field, "one or another")

    Raises:
        ValueError: A field does not fit; the message names it.
    """

    ZERO: ClassVar[tuple[str, ...]] = ()
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {}
    NEEDS: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __post_init__(self) -> None:
        for cls in reversed(type(self).__mro__):
            for name, choices in vars(cls).get("CHOICES", {}).items():
                self._check_choice(name, choices)
            for name, needed in vars(cls).get("NEEDS", ()):
                needs = needed.split(" or ")
                if getattr(self, name) and not any(getattr(self, n) for n in needs):
                    raise ValueError(f"{name} needs {needed}")
        zero = {
            name for cls in type(self).__mro__ for name in vars(cls).get("ZERO", ())
        }
        types = _types(type(self))
        for field in dataclasses.fields(self):
            self._check_value(field.name, types[field.name], field.name in zero)

    def _check_value(self, name: str, type_: object, may_be_zero: bool) -> None:
        value = getattr(self, name)
        if type_ in (int, float):
            if may_be_zero and not 0 <= value < math.inf:
                raise ValueError(f"{name} must not be negative, not {value!r}")
            if not (may_be_zero or 0 < value < math.inf):
                raise ValueError(f"{name} must be positive, not {value!r}")
        elif get_origin(type_) is tuple and isinstance(value, str):
            raise ValueError(f"{name} is a tuple of texts, not one text")

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in choices:
            raise ValueError(
                f"{name} must be one of {', '.join(choices)}, not {value!r}"
            )


@dataclass(frozen=True, kw_only=True)
class ListenOptions(Options):
    """Options for listening, starting and stopping.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        reuse_port: Whether other processes may listen on the same port.
        workers: Processes that share the port; more than 1 from the command line only.
        drain_timeout: Seconds for the calls in flight when stopping.
        discovery_interval: Seconds between two rounds of asking who is there; kitmsg
            services are seen at once anyway.
        strict: Whether services are called below their own names only, and where
            allow_subject says so; with authentication on, they are.
        allow_subject: Subjects that a service may have besides, such as
            billing=legacy.>
        metrics_port: Port of a page with metrics for Prometheus; 0 for none.
        access_log: Write a line for each call: a log line, or common, combined or json
            on standard output.
    """

    ZERO: ClassVar[tuple[str, ...]] = ("port", "metrics_port")

    host: str = "127.0.0.1"
    port: int = 0
    reuse_port: bool = False
    workers: int = 1
    drain_timeout: float = 25.0
    discovery_interval: float = 2.0
    strict: bool = False
    allow_subject: tuple[str, ...] = ()
    metrics_port: int = 0
    access_log: bool | str = False

    def __post_init__(self) -> None:
        _check_access(self.access_log)
        if self.access_log is True:
            object.__setattr__(self, "access_log", LINE)
        super().__post_init__()
        if self.metrics_port and self.workers > 1:
            raise ValueError(
                "metrics_port is for one process; the page of --health adds up workers"
            )
        try:
            SubjectPolicy.of(self.strict, self.allow_subject)
        except InvalidArgument as exc:
            raise ValueError(f"allow_subject: {exc}") from exc

    @property
    def access_format(self) -> str:
        """Format of the lines of calls; "" where none are written."""
        return str(self.access_log or "")

    @property
    def subject_policy(self) -> SubjectPolicy:
        """The rule of where services may be called on their word."""
        has_auth = any(getattr(self, name, "") for name in _AUTH)
        return SubjectPolicy.of(self.strict or has_auth, self.allow_subject)

    def at(self, host: str | None, port: int | None) -> Self:
        """Return these options with another address; None keeps what there is."""
        return dataclasses.replace(
            self,
            host=self.host if host is None else host,
            port=self.port if port is None else port,
        )


@dataclass(frozen=True, kw_only=True)
class CallOptions(Options):
    """Limits on calls, and what stands around them.

    Attributes:
        timeout: Seconds a call may take when neither the client nor the endpoint says.
        max_timeout: Most seconds that a client or an endpoint can ask for; streams have
            no such bound.
        max_concurrent: Calls in flight at once; more are refused.
        max_held_bytes: Bytes held for all clients at once, in requests that arrive or are
            answered; more are refused.
        middleware: Middlewares around every call to a service, and what clients do with
            events, or where a list of them is, such as shop.edge:middlewares.
        signing_key: File with the private key that vouches for callers to services, or
            env:NAME for a variable: Ed25519, as PEM, JWK or nkey seed.
        audience: The system that these signatures are for.
        breaker: Whether a service that cannot keep up is sent only as many calls as it
            answers, and a few to try it.
        route: Rule for the instances that get calls, such as orders=direct,
            orders=version:@x-kit-version or orders.get=sticky:id; the first that fits a
            call counts.
    """

    timeout: float = 5.0
    max_timeout: float = 60.0
    max_concurrent: int = 10_000
    max_held_bytes: int = 256 << 20
    middleware: tuple[Any, ...] = ()
    signing_key: str = ""
    audience: str = AUDIENCE
    breaker: bool = True
    route: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.route:
            from kitmsg_gateways.edge.routes import parse_rule

            for rule in self.route:
                parse_rule(rule)

    @property
    def route_headers(self) -> tuple[str, ...]:
        """Headers of clients that rules go by, in lower case."""
        if not self.route:
            return ()
        from kitmsg_gateways.edge.routes import parse_rule

        found = [parse_rule(rule).header for rule in self.route]
        return tuple(dict.fromkeys(name for name in found if name))


@dataclass(frozen=True, kw_only=True)
class TlsOptions(Options):
    """Certificates and keys, in PEM.

    Attributes:
        tls_cert: File with our certificate and its chain; switches TLS on.
        tls_key: File with its private key; by default in the same file.
        tls_client_ca: File with the authorities of client certificates, which are then
            asked for.
        handshake_timeout: Seconds for the handshake of a new connection.
        reload_interval: Seconds between two looks whether certificates, keys or passwords
            have changed.
    """

    NEEDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("tls_key", "tls_cert"),
        ("tls_client_ca", "tls_cert"),
    )

    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    handshake_timeout: float = 10.0
    reload_interval: float = 5.0


@dataclass(frozen=True, kw_only=True)
class AuthOptions(TlsOptions):
    """Options for authentication and rate limits.

    Attributes:
        tls_client_optional: Whether a client may come without a certificate.
        jwt_key: File with the key of bearer tokens, or env:NAME for a variable: PEM, a JWK
            Set, or a secret; switches authentication on.
        jwks_url: Where the keys of bearer tokens are instead.
        jwt_algorithms: Algorithms that tokens may use.
        jwt_issuer: What iss of a token must be.
        jwt_audience: What aud of a token must name.
        jwt_leeway: Seconds by which clocks may differ.
        jwt_required: Claims that a token must have beside exp and sub.
        jwt_claims: Claims that services get beside sub.
        basic_file: File of user:hash lines; switches authentication on.
        api_keys: File of name:digest lines, one for each API key; switches authentication
            on.
        rate_limit: Calls a second from one address; 0 for no limit.
        rate_burst: Calls that may come at once after a quiet time; 0 for a second's
            worth.
        principal_rate_limit: Calls a second of one principal; 0 for no limit.
        principal_rate_burst: Calls of one principal that may come at once, likewise.
        forward_authorization: Whether services get the ``Authorization`` of a call.
    """

    ZERO: ClassVar[tuple[str, ...]] = (
        "jwt_leeway",
        "rate_limit",
        "rate_burst",
        "principal_rate_limit",
        "principal_rate_burst",
    )
    NEEDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("tls_client_optional", "tls_client_ca"),
        ("jwt_issuer", "jwt_key or jwks_url"),
        ("jwt_audience", "jwt_key or jwks_url"),
        ("jwt_required", "jwt_key or jwks_url"),
        ("rate_burst", "rate_limit"),
        (
            "principal_rate_limit",
            "jwt_key or jwks_url or basic_file or api_keys or tls_client_ca",
        ),
        ("principal_rate_burst", "principal_rate_limit"),
    )

    tls_client_optional: bool = False
    jwt_key: str = ""
    jwks_url: str = ""
    jwt_algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    jwt_issuer: str = ""
    jwt_audience: tuple[str, ...] = ()
    jwt_leeway: float = 10.0
    jwt_required: tuple[str, ...] = ()
    jwt_claims: tuple[str, ...] = ("iss", "scope", "scp", "role", "roles")
    basic_file: str = ""
    api_keys: str = ""
    rate_limit: float = 0.0
    rate_burst: int = 0
    principal_rate_limit: float = 0.0
    principal_rate_burst: int = 0
    forward_authorization: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.jwt_key and self.jwks_url:
            raise ValueError(
                "jwt_key and jwks_url are two places for one thing; say one"
            )


@dataclass(frozen=True, kw_only=True)
class ShownOptions(Options):
    """Options for what of the bus is served; `kitmsg_gateways.edge.shown` says how.

    Attributes:
        only: Services and endpoints that are served, such as shop or shop.orders.*; by
            default all but internal ones.
        hide: Services and endpoints that are not, likewise; goes before only.
    """

    only: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("only", "hide"):
            for pattern in getattr(self, name):
                if not _PATTERN.fullmatch(pattern):
                    raise ValueError(
                        f"{name} has {pattern!r}; write SERVICE, SERVICE.ENDPOINT or"
                        " SERVICE.*"
                    )


@dataclass(frozen=True, kw_only=True)
class EventOptions(Options):
    """Options of doors that events go through.

    Attributes:
        events: Events that clients may publish and read, such as orders.placed, or one of
            the two, such as orders.placed:publish or orders.placed:read; none by default.
    """

    events: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.events:
            if not _EVENT.fullmatch(text):
                raise ValueError(
                    f"events has {text!r}; write NAME, NAME:publish or NAME:read, such as"
                    " orders.placed:read"
                )

    def opens(self, mode: str) -> frozenset[str]:
        """Return the names of the events that are open for ``publish`` or ``read``."""
        parts = [text.partition(":") for text in self.events]
        return frozenset(name for name, _, only in parts if only in ("", mode))


@dataclass(frozen=True, kw_only=True)
class EdgeOptions(ShownOptions, AuthOptions, CallOptions, ListenOptions):
    """Options that all doors have alike.

    Attributes:
        public: Whether outsiders call: their request ids are noted and replaced, and their
            baggage does not come in; those of trusted proxies do.
    """

    public: bool = False


@dataclass(frozen=True, kw_only=True)
class SocketOptions(EdgeOptions):
    """Options of doors whose connections are served here, and not by a library's core.

    Attributes:
        max_connections: Connections at once; more are refused.
        max_connections_per_address: Connections at once from one address, but for trusted
            proxies; 0 for no limit.
    """

    ZERO: ClassVar[tuple[str, ...]] = ("max_connections_per_address",)

    max_connections: int = 20_000
    max_connections_per_address: int = 0


_known_types: dict[type, dict[str, Any]] = {}


def _types(cls: type) -> dict[str, Any]:
    """Return the types of a class's fields, by name."""
    if cls not in _known_types:
        _known_types[cls] = get_type_hints(cls)
    return _known_types[cls]


def _check_access(given: bool | str) -> None:
    if given and given is not True and given not in ACCESS_FORMATS:
        raise ValueError(
            f"access_log must be one of {', '.join(ACCESS_FORMATS)}, not {given!r}"
        )
