"""Checks the attributes that set a service: their types, their values, their spelling."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Mapping, Set
from typing import Any, Final

from kitmsg.auth.allow import as_policy
from kitmsg.discovery.subject import check_version
from kitmsg.events.event import facts_of
from kitmsg.message import check_name
from kitmsg.service.declaration import check_middleware
from kitmsg.service.mark import options_of

__all__ = ["check_settings"]

_OURS: Final = frozenset({"_kit", "_inbox"})
_HOOKS: Final = ("start", "stop")
_NEAR: Final = 0.85

_WHOLE: Final[Mapping[str, int]] = {
    "concurrency": 1,
    "mailbox": 0,
    "max_streams": 1,
    "max_bytes": 1,
    "replicas": 1,
}
"""Settings that are whole numbers, and the least of each."""

_KINDS: Final[Mapping[str, tuple[type | tuple[type, ...], str]]] = {
    "name": (str, "text"),
    "version": (str, "text such as '1.4.0'"),
    "queue": (str, "text"),
    "drain_timeout": ((int, float), "seconds as a number"),
    "metadata": (Mapping, "a dict of text"),
    "off": ((list, tuple, Set), "a list of text"),
    "publishes": ((list, tuple, Set), "a list of event classes"),
}


def check_settings(cls: Any, defaults: Collection[str]) -> None:
    """Check the settings that a service class gives itself.

    Args:
        cls: The class.
        defaults: What `off` may name.

    Raises:
        TypeError: One has the wrong type, is misspelled, or is an endpoint.
        ValueError: One has a value that it cannot have.
    """
    own = {name: value for name, value in vars(cls).items() if name in _settings()}
    for name, value in own.items():
        if options_of(value) is not None:
            raise TypeError(
                f"{cls.__name__}.{name} is a setting of every service; call the"
                f" method otherwise and give @endpoint(name={name!r})"
            )
        if not isinstance(value, property):  # an instance may find it out
            _check(cls, name, value)
    check_name(cls.name, f"the service {cls.__name__}")
    if cls.name.lower() in _OURS:
        raise ValueError(f"{cls.__name__}: the name {cls.name!r} is the toolkit's own")
    check_version(cls.version, cls.__name__)
    unknown = sorted(set(cls.off) - set(defaults))
    if unknown:
        known = ", ".join(sorted(defaults))
        raise ValueError(f"{cls.__name__}: off names {unknown[0]!r}; known are {known}")
    for event in cls.publishes:
        facts_of(event)
    _check_spelling(cls)


def _settings() -> frozenset[str]:
    more = ("allow", "middleware", "supervision")
    return frozenset({*_WHOLE, *_KINDS, *_HOOKS, *more})


def _check(cls: type, name: str, value: Any) -> None:
    where = f"{cls.__name__}.{name}"
    if name in _HOOKS:
        _check_hook(where, name, value)
    elif name == "middleware":
        check_middleware(value, where)
    elif name == "allow":
        _check_policy(where, value)
    elif name in _WHOLE:
        _check_whole(where, value, _WHOLE[name])
    elif name in _KINDS:
        kind, what = _KINDS[name]
        if isinstance(value, bool) or not isinstance(value, kind):
            raise TypeError(f"{where} takes {what}, not {value!r}")
        if isinstance(value, (int, float)) and not value >= 0:
            raise ValueError(f"{where} must be seconds from 0, not {value!r}")
    elif not hasattr(value, "max_restarts"):
        raise TypeError(f"{where} takes kitmsg.Supervision(...), not {value!r}")


def _check_policy(where: str, value: Any) -> None:
    try:
        if value is not None:
            as_policy(value)
    except TypeError as exc:
        raise TypeError(f"{where}: {exc}") from None


def _check_whole(where: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{where} takes a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{where} must be at least {least}, not {value}")


def _check_hook(where: str, name: str, value: Any) -> None:
    if not callable(value):
        raise TypeError(
            f"{where} is called when the service {name}s; define a method, not {value!r}"
        )
    inner = inspect.unwrap(value)
    if inspect.isfunction(inner) and not inspect.iscoroutinefunction(inner):
        raise TypeError(
            f"{where} is awaited when the service {name}s; write async def {name}(self)"
        )


def _check_spelling(cls: type) -> None:
    """Refuse an attribute that is nearly a setting, and has a setting's kind of value."""
    known = sorted({*_WHOLE, *_KINDS, "middleware", "supervision"})
    for name, value in vars(cls).items():
        if name in known or name.strip("_") != name or callable(value):
            continue
        for near in difflib.get_close_matches(name, known, n=1, cutoff=_NEAR):
            if _could_be(near, value):
                raise TypeError(
                    f"{cls.__name__}.{name} is no setting of a service; did you mean"
                    f" {near!r}? An attribute of your own with that name begins with '_'"
                )


def _could_be(setting: str, value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if setting in _WHOLE:
        return isinstance(value, int)
    if setting == "middleware":
        return isinstance(value, (list, tuple)) and all(map(callable, value))
    if setting == "supervision":
        return hasattr(value, "max_restarts")
    return isinstance(value, _KINDS[setting][0])
