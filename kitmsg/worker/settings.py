"""Settings of workers and commands, from flags, environment and pyproject.toml.

`Settings` is the one source of the flags, of the ``KITMSG_...`` and ``NATS_...``
variables, of the keys of ``[tool.kitmsg]`` in pyproject.toml, and of their help.  A flag
wins over the environment, and that over the table.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args, get_type_hints

from kitmsg.auth.signing import AUDIENCE
from kitmsg.errors import InvalidArgument
from kitmsg.logs.setup import FORMATS
from kitmsg.metrics.address import parse
from kitmsg.tracing.exporters import check_address

if TYPE_CHECKING:
    from argparse import ArgumentParser, _ArgumentGroup
    from collections.abc import Iterable, Mapping

__all__ = [
    "LOG_NAMES",
    "NATS_NAMES",
    "WORKER_NAMES",
    "Settings",
    "add_flags",
    "load_settings",
    "parse_address",
]

_LEVELS: Final = ("debug", "info", "warning", "error")
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off", ""})
_LEAST_WATCHDOG: Final = 1.0
_MAX_PORT: Final = 65535


def _say(default: Any, text: str, env: str, **more: Any) -> Any:
    """Return a field: its default, its help, its variable."""
    return dataclasses.field(
        default=default,
        repr=not more.get("is_secret"),
        metadata={"help": text, "env": env, **more},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """All that can be set; defaults fit a laptop.

    Times are in seconds.  Secrets come from the environment only, or from files that it
    names (``NATS_PASSWORD_FILE``): a command line is shown to everybody on the machine,
    and a table is committed.

    Raises:
        InvalidArgument: A value is out of bounds; the message names the setting.
    """

    services: tuple[str, ...] = _say(
        (), "what to serve, as MODULE:CLASS", "KITMSG_SERVICES", has_flag=False
    )
    workers: int = _say(1, "worker processes", "KITMSG_WORKERS", metavar="N")
    health: str = _say(
        "",
        "serve /healthz, /readyz and /metrics there; in a container say 0.0.0.0:PORT",
        "KITMSG_HEALTH",
        metavar="[HOST:]PORT",
    )
    metrics: tuple[str, ...] = _say(
        (),
        "push metrics there, as in statsd://127.0.0.1:8125 or otlp://127.0.0.1:4317; may be"
        " repeated; `prometheus` is read at /metrics of --health",
        "KITMSG_METRICS",
        metavar="ADDRESS",
        is_repeated=True,
    )
    register: str = _say(
        "",
        "announce this process there while it serves, as in"
        " consul://127.0.0.1:8500/payments",
        "KITMSG_REGISTER",
        metavar="ADDRESS",
    )
    advertise: str = _say(
        "",
        "the address to announce; by default the one that is listened on",
        "KITMSG_ADVERTISE",
        metavar="HOST:PORT",
    )
    log_format: str = _say(
        "console",
        "lines for people or for machines",
        "KITMSG_LOG_FORMAT",
        choices=FORMATS,
    )
    log_level: str = _say(
        "info", "the least that is written", "KITMSG_LOG_LEVEL", choices=_LEVELS
    )
    log_fold: float = _say(
        1.0,
        "write a warning or error once in so long, and how often it came; 0 for each",
        "KITMSG_LOG_FOLD",
        metavar="SECONDS",
    )
    log_secrets: tuple[str, ...] = _say(
        (),
        "more names of fields whose values are not shown; several with commas",
        "KITMSG_LOG_SECRETS",
        metavar="NAME",
    )
    log_source: bool = _say(
        False, "say which line of code wrote each line", "KITMSG_LOG_SOURCE"
    )
    makes_streams: bool = _say(
        False,
        "make the streams that services declare, where that adds only; dev does",
        "KITMSG_MAKES_STREAMS",
    )
    outbox: str = _say(
        "",
        "relay the outbox of this database while serving, as in"
        " postgresql+asyncpg://app@db/orders; with a password, set the variable",
        "KITMSG_OUTBOX",
        metavar="URL",
    )
    access_log: bool = _say(False, "write a line per call", "KITMSG_ACCESS_LOG")
    traces: tuple[str, ...] = _say(
        (),
        "where spans go: otlp://HOST:4317, otlp+http://HOST:4318, zipkin://HOST:9411 or"
        " console; several with commas; by default what OTEL_... says",
        "KITMSG_TRACES",
        metavar="ADDRESS",
    )
    trace_errors: bool = _say(
        False, "business errors make a span an error, too", "KITMSG_TRACE_ERRORS"
    )
    trace_replies: bool = _say(
        False,
        "answer kitmsg call --trace with the spans of its call; on in kitmsg dev",
        "KITMSG_TRACE_REPLIES",
    )
    watchdog: float = _say(
        10.0,
        "kill a worker whose event loop stands still so long; 0 for never",
        "KITMSG_WATCHDOG",
        metavar="SECONDS",
    )
    max_ping_interval: float = _say(
        10.0,
        "warn if the NATS server pings less often; 0 for never",
        "KITMSG_MAX_PING_INTERVAL",
        metavar="SECONDS",
    )
    drain_timeout: float | None = _say(
        None,
        "longest wait for the calls in hand when stopping; by default what each"
        " service says (25 s)",
        "KITMSG_DRAIN_TIMEOUT",
        metavar="SECONDS",
    )
    trusted_keys: tuple[str, ...] = _say(
        (),
        "public keys that may vouch for callers: files, or kv:BUCKET; several with commas",
        "KITMSG_TRUSTED_KEYS",
        metavar="FILE",
    )
    signing_key: str = _say(
        "",
        "private key that signs the calls that services make by themselves",
        "KITMSG_SIGNING_KEY",
        metavar="FILE",
    )
    audience: str = _say(
        AUDIENCE,
        "the system that signatures are for",
        "KITMSG_AUDIENCE",
        metavar="NAME",
    )
    nats_url: str = _say(
        "nats://127.0.0.1:4222",
        "where the bus is; several addresses with commas",
        "NATS_URL",
        metavar="URL",
    )
    nats_user: str = _say("", "user name", "NATS_USER", metavar="NAME")
    nats_password: str = _say("", "its password", "NATS_PASSWORD", is_secret=True)
    nats_token: str = _say("", "token instead of a user", "NATS_TOKEN", is_secret=True)
    nats_creds: str = _say("", "credentials file", "NATS_CREDS", metavar="FILE")
    nats_nkey: str = _say("", "file with an nkey seed", "NATS_NKEY", metavar="FILE")
    nats_ca: str = _say(
        "", "authority of the server's certificate", "NATS_CA", metavar="FILE"
    )
    nats_cert: str = _say("", "client certificate", "NATS_CERT", metavar="FILE")
    nats_key: str = _say("", "key of the certificate", "NATS_KEY", metavar="FILE")
    nats_inbox_prefix: str = _say(
        "_INBOX",
        "first tokens of the subjects that replies come on",
        "NATS_INBOX_PREFIX",
        metavar="PREFIX",
    )
    nats_peer_inbox: str = _say(
        "",
        "inbox prefixes of others that are answered, beside _INBOX and _INBOX_...;"
        " several with commas",
        "NATS_PEER_INBOX",
        metavar="PREFIX",
    )

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InvalidArgument(f"workers must be at least 1, not {self.workers}")
        for name in ("watchdog", "max_ping_interval", "drain_timeout", "log_fold"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InvalidArgument(f"{_dashed(name)} must not be less than 0")
        if 0 < self.watchdog < _LEAST_WATCHDOG:
            raise InvalidArgument(
                f"watchdog must be at least {_LEAST_WATCHDOG:g} s, or 0 for none: a"
                " worker shows life twice a second"
            )
        for name in ("log_format", "log_level"):
            _check_choice(name, getattr(self, name))
        if self.health:
            parse_address(self.health)
        for address in self.traces:
            check_address(address)
        for text in self.metrics:
            parse(text)

    def logging(self) -> dict[str, Any]:
        """Return the arguments for `kitmsg.logs.set_up`."""
        return {
            "log_format": self.log_format,
            "level": self.log_level,
            "fold": self.log_fold,
            "secrets": self.log_secrets,
            "has_source": self.log_source,
        }

    def connection(self, name: str = "") -> dict[str, Any]:
        """Return the arguments for `NatsBus.connect`.

        Args:
            name: What the server's list of connections shows.
        """
        facts = {
            "servers": self.nats_url,
            "name": name,
            "user": self.nats_user,
            "password": self.nats_password,
            "token": self.nats_token,
            "creds": self.nats_creds,
            "nkey_file": self.nats_nkey,
            "tls_ca": self.nats_ca,
            "tls_cert": self.nats_cert,
            "tls_key": self.nats_key,
            "inbox_prefix": self.nats_inbox_prefix,
            "peer_inboxes": tuple(filter(None, self.nats_peer_inbox.split(","))),
        }
        return {key: value for key, value in facts.items() if value}


_FIELDS: Final = {field.name: field for field in dataclasses.fields(Settings)}
_TYPES: Final = get_type_hints(Settings)

LOG_NAMES: Final = tuple(name for name in _FIELDS if name.startswith("log_"))
"""Settings of every process that writes logs."""

NATS_NAMES: Final = tuple(name for name in _FIELDS if name.startswith("nats_"))
"""Settings that every command with a bus has."""

WORKER_NAMES: Final = tuple(name for name in _FIELDS if not name.startswith("nats_"))
"""Settings of workers only."""


def parse_address(text: str, host: str = "127.0.0.1") -> tuple[str, int]:
    """Return host and port of ``[HOST:]PORT``.

    Raises:
        InvalidArgument: It is neither.
    """
    before, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > _MAX_PORT:
        raise InvalidArgument(f"{text!r} is not [HOST:]PORT, such as 9090")
    return before.strip("[]") or host, int(port)


def add_flags(parser: ArgumentParser | _ArgumentGroup, names: Iterable[str]) -> None:
    """Add the flags of the settings in `names`; secrets and lists have none."""
    import argparse

    for name in names:
        field = _FIELDS[name]
        meta = field.metadata
        if meta.get("is_secret") or not meta.get("has_flag", True):
            continue
        flags = [f"--{_dashed(name)}"] + (["-s"] if name == "nats_url" else [])
        shown = f"{meta['help']} [{meta['env']}]"
        if _TYPES[name] is bool:
            action = argparse.BooleanOptionalAction
            parser.add_argument(*flags, action=action, default=None, help=shown)
            continue
        parser.add_argument(
            *flags,
            action="append" if meta.get("is_repeated") else "store",
            choices=meta.get("choices"),
            metavar=meta.get("metavar"),
            default=None,
            help=f"{shown}{_shown_default(field.default)}",
        )


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Return what holds now.

    Args:
        flags: By name of the setting; None for those that were not given; others are
            ignored.
        environ: The environment; by default this process's.
        folder: Where pyproject.toml may be; by default the current folder.

    Raises:
        InvalidArgument: A value does not fit, or the table has an unknown key.
    """
    environ = os.environ if environ is None else environ
    chosen = _table(folder or Path())
    for name, field in _FIELDS.items():
        text = environ.get(field.metadata["env"])
        if field.metadata.get("is_secret"):
            text = _secret(field.metadata["env"], environ)
        if text:
            chosen[name] = _read(name, text, field.metadata["env"])
        flag = (flags or {}).get(name)
        if flag is not None:
            chosen[name] = _read(name, flag, f"--{_dashed(name)}")
    return Settings(**chosen)


def _secret(env: str, environ: Mapping[str, str]) -> str:
    """Return the secret in the variable `env`, or in the file that ``{env}_FILE`` names."""
    text, path = environ.get(env, ""), environ.get(f"{env}_FILE", "")
    if not path:
        return text
    if text:
        raise InvalidArgument(f"{env} and {env}_FILE are both set; set one of them")
    try:
        text = Path(path).read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not text"
        raise InvalidArgument(f"cannot read {env}_FILE {path!r}: {reason}") from None
    if not text or "\n" in text:
        raise InvalidArgument(
            f"{env}_FILE {path!r} must hold the secret alone, in a line"
        )
    return text


def _table(folder: Path) -> dict[str, Any]:
    path = folder / "pyproject.toml"
    try:
        tool = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as exc:
        raise InvalidArgument(f"cannot read {path}: {exc}") from exc
    table = tool.get("kitmsg", {})
    return {
        _known(key): _read(_known(key), value, f"{key!r} in [tool.kitmsg]")
        for key, value in table.items()
    }


def _known(key: str) -> str:
    name = key.replace("-", "_")
    if name not in _FIELDS:
        near = difflib.get_close_matches(name, _FIELDS, n=1, cutoff=0.5)
        hint = f"; did you mean {_dashed(near[0])!r}?" if near else ""
        raise InvalidArgument(f"[tool.kitmsg] has an unknown key {key!r}{hint}")
    if _FIELDS[name].metadata.get("is_secret"):
        env = _FIELDS[name].metadata["env"]
        raise InvalidArgument(f"keep {key!r} out of pyproject.toml: set {env} instead")
    return name


def _read(name: str, value: Any, source: str) -> Any:
    """Return `value`, text or already typed, as the type of the setting `name`."""
    kind = _TYPES[name]
    try:
        if kind is bool:
            return _boolean(value)
        if kind == tuple[str, ...]:
            return _names(value)
        if kind is str:
            return str(value) if type(value) in (str, int) else _no(value)
        number = get_args(kind)[0] if get_args(kind) else kind
        return number(value) if not isinstance(value, bool) else _no(value)
    except (TypeError, ValueError):
        wanted = {bool: "true or false", int: "a whole number", str: "text"}
        raise InvalidArgument(
            f"{source} is {value!r}; write {wanted.get(kind, 'a number')}"
        ) from None


def _boolean(value: Any) -> bool:
    word = str(value).strip().lower()
    return word in _TRUE or (False if word in _FALSE else _no(value))


def _names(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else [str(part) for part in value]
    return tuple(part for text in texts for part in text.replace(",", " ").split())


def _no(value: Any) -> Any:
    raise ValueError(value)


def _check_choice(name: str, value: str) -> None:
    choices = _FIELDS[name].metadata["choices"]
    if value not in choices:
        raise InvalidArgument(
            f"{_dashed(name)} is {value!r}; choose {' or '.join(choices)}"
        )


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _shown_default(default: Any) -> str:
    return "" if default in ("", None, ()) else f" (default: {default})"
