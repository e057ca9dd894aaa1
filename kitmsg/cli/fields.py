"""Flags made of the fields of a dataclass; its docstring is their help."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
from typing import Any, get_args, get_origin, get_type_hints

from kitmsg.cli.output import UsageError

__all__ = ["add_fields", "chosen"]


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
            parser.add_argument(flag, action=action, default=None, help=text)
            continue
        is_many = get_origin(type_) is tuple
        default = "" if field.default in ("", ()) else f" (default: {field.default})"
        parser.add_argument(
            flag,
            type=get_args(type_)[0] if is_many else type_,
            action="append" if is_many else "store",
            default=None,
            metavar=field.name.rpartition("_")[2].upper(),
            help=f"{text}{'; may be repeated' if is_many else ''}{default}",
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


def _texts(cls: type) -> dict[str, str]:
    """Return what a class's docstring says of its attributes, by name."""
    doc = inspect.getdoc(cls) or ""
    _, _, listed = doc.partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.+(?:\n      +.+)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()).rstrip(".") for name, text in found}
