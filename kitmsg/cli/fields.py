"""Flags made of the fields of a dataclass; its docstring is their help."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import re
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec

from kitmsg.cli.output import UsageError

__all__ = ["add_fields", "chosen", "port_number", "read_option"]

_MAX_PORT: Final = 65535
_WORDS: Final = {"yes": True, "no": False}


def add_fields(parser: argparse.ArgumentParser, cls: Any) -> None:
    """Add a flag for each field of a dataclass of options.

    Args:
        parser: Gets the flags.
        cls: Its fields are texts, numbers, booleans, or tuples of texts, which may be
            given several times; the ``Attributes`` of its docstring are the help.
    """
    types, texts = get_type_hints(cls), _texts(cls)
    for field in dataclasses.fields(cls):
        flag = f"--{field.name.replace('_', '-')}"
        text = texts.get(field.name, "").replace("%", "%%")
        type_ = types[field.name]
        if type_ is bool:
            action = argparse.BooleanOptionalAction
            text += " (default: yes)" if field.default else ""
            parser.add_argument(flag, action=action, default=None, help=text)
            continue
        if bool in get_args(type_):
            _add_switch(parser, flag, text)
            continue
        is_many = get_origin(type_) is tuple
        shown: Any = field.default
        shown = ", ".join(shown) if is_many else shown
        default = "" if shown == "" else f" (default: {shown})"
        parser.add_argument(
            flag,
            type=str if is_many else _reader(field.name, type_),
            action="append" if is_many else "store",
            default=None,
            metavar=_metavar(field.name, type_, text),
            help=f"{text}{'; may be repeated' if is_many else ''}{default}",
        )


def _add_switch(parser: argparse.ArgumentParser, flag: str, text: str) -> None:
    """Add a flag that may have a value, and one that switches it off."""
    parser.add_argument(
        flag, nargs="?", const=True, default=None, metavar="FORMAT", help=text
    )
    off = f"--no-{flag.removeprefix('--')}"
    name = flag.removeprefix("--").replace("-", "_")
    parser.add_argument(
        off, dest=name, action="store_false", default=None, help=argparse.SUPPRESS
    )


def chosen(cls: Any, options: argparse.Namespace) -> Any:
    """Return the options that the flags say.

    Args:
        cls: As in `add_fields`.
        options: What was parsed.

    Raises:
        UsageError: They are refused.
    """
    names = [field.name for field in dataclasses.fields(cls)]
    given = {n: getattr(options, n) for n in names if getattr(options, n) is not None}
    given = {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}
    try:
        return cls(**given)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc


def read_option(cls: Any, name: str, text: str, into: dict[str, Any]) -> None:
    """Read one option of a dataclass from text; a tuple's field is added to.

    Args:
        cls: As in `add_fields`.
        name: Of the field.
        text: Its value; ``yes`` and ``no`` are booleans too.
        into: Gets it.

    Raises:
        ValueError: There is no such field, or the text does not fit it.
    """
    types = get_type_hints(cls)
    if name not in types:
        near = difflib.get_close_matches(name, types, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no option {name!r}{hint}")
    type_ = types[name]
    if get_origin(type_) is tuple:
        into[name] = (*into.get(name, ()), text)
        return
    is_switch = type_ is bool or bool in get_args(type_)
    value = _WORDS.get(text.lower(), text) if is_switch else text
    try:
        into[name] = msgspec.convert(value, type=type_, strict=False)
    except msgspec.ValidationError as exc:
        raise ValueError(f"{name} cannot be {text!r}: {exc}") from exc


def port_number(text: str) -> int:
    """Read a port's number; 0 for any free one.

    Raises:
        ArgumentTypeError: It is none.
    """
    if not text.isascii() or not text.isdigit() or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to {_MAX_PORT})")
    return int(text)


def _reader(name: str, type_: Any) -> Any:
    """Return what reads one value of a flag."""
    return port_number if name.rpartition("_")[2] == "port" else type_


def _metavar(name: str, type_: Any, text: str) -> str:
    """Return what stands for a flag's value: its unit, or the last word of its name."""
    last = name.rpartition("_")[2].upper()
    if type_ not in (int, float) or last in ("BYTES", "PORT"):
        return last
    return "SECONDS" if "seconds" in text.lower() else "N"


def _texts(cls: type) -> dict[str, str]:
    """Return what docstrings say of a class's attributes, by name: its own and its bases'."""
    texts: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        _, _, listed = inspect.cleandoc(one.__doc__ or "").partition("Attributes:\n")
        found = re.findall(r"^    (\w+): (.+(?:\n      +.+)*)", listed, re.MULTILINE)
        texts |= {name: " ".join(text.split()).rstrip(".") for name, text in found}
    return texts
