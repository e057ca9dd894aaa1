"""``kitmsg export KIND``: services as files that other languages compile.

The kinds are plugins, see `kitmsg.worker.plugins.Exporter`.
"""

from __future__ import annotations

import difflib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, get_type_hints

from kitmsg.cli.exported import events_of_classes, events_on_bus, look_around
from kitmsg.cli.gateway import add_kinds
from kitmsg.cli.output import UsageError, fail, usage
from kitmsg.cli.remote import add_bus_flags, on_bus
from kitmsg.worker.plugins import EXPORTERS, event_exporter

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from kitmsg.idl.lock import Lock
    from kitmsg.idl.model import ServiceShapes
    from kitmsg.service import Kit, Service
    from kitmsg.worker.plugins import EventExporter, Exporter

__all__ = ["add_arguments", "run"]

_EXAMPLES: Final = """\
examples:
  kitmsg export {kind} greeter.py
  kitmsg export {kind} greeter:Greeter --out idl/
  kitmsg export {kind} greeter:Greeter --out idl/ --check    in CI
  kitmsg export {kind} --bus orders inventory
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_kinds(parser, EXPORTERS, _fill, text="write {} files")


def _fill(one: argparse.ArgumentParser, exporter: Exporter, name: str) -> None:
    one.description = f"Write services as {exporter.TITLE} files."
    one.epilog = _EXAMPLES.format(kind=name)
    one.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="module:Class, file.py or a folder; with --bus, names of services",
    )
    one.set_defaults(rest="targets")
    one.add_argument(
        "--bus",
        action="store_true",
        dest="from_bus",
        help="take the services that are on the bus now",
    )
    one.add_argument(
        "--out",
        metavar="PATH",
        help=f"a {exporter.SUFFIX} file or a folder; standard output by default",
    )
    if event_exporter(exporter) is None:
        one.add_argument(
            "--lock",
            metavar="FILE",
            help=f"the numbers that clients rely on (default: {exporter.LOCK}); written"
            " along with --out",
        )
    one.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit with 1 if something would change",
    )
    add_bus_flags(one)


def run(options: argparse.Namespace) -> int:
    """Export; returns the exit code.

    Raises:
        UsageError: A target, a path or the lock is wrong, or the services have no form in
            this format or have changed in a way that would break clients.
    """
    exporter = EXPORTERS.load(options.kind)
    of_events = event_exporter(exporter)
    if of_events is not None:
        return _run_events(options, of_events)
    found = _from_bus(options) if options.from_bus else _from_code(options.targets)
    if not found:
        raise UsageError("nothing to export: no service tells its types")
    lock_path = Path(options.lock or exporter.LOCK)
    lock = _read_lock(lock_path)
    try:
        with usage():
            made = exporter.generate(found, lock)
    except ValueError as error:
        raise UsageError(str(error)) from error
    by_name = {f"services{exporter.SUFFIX}": made} if isinstance(made, str) else made
    files = _placed(by_name, options.out, exporter.SUFFIX) if options.out else {}
    if options.out or options.lock:
        files[lock_path] = lock.dump()
    if options.check:
        return _check({**files, lock_path: lock.dump()}, options)
    if not options.out:
        _print(by_name)
    _write(files)
    return 0


def _run_events(options: argparse.Namespace, exporter: EventExporter) -> int:
    """Export events; returns the exit code."""
    found = events_on_bus(options) if options.from_bus else events_of_classes(options)
    try:
        by_name = exporter.generate(*found)
    except ValueError as error:
        raise UsageError(str(error)) from error
    files = _placed(by_name, options.out, exporter.SUFFIX) if options.out else {}
    if options.check:
        if not files:
            raise UsageError("--check compares files: say which with --out")
        return _check(files, options)
    if not options.out:
        _print(by_name)
    _write(files)
    return 0


def _from_code(targets: Sequence[str]) -> list[ServiceShapes]:
    """Return the services that targets define."""
    from kitmsg.idl.service import Description, shape_service
    from kitmsg.service.host import first_line
    from kitmsg.worker.load import load

    if not targets:
        raise UsageError(
            "nothing to export: name a target such as greeter:Greeter, or give --bus"
        )
    with usage():
        classes = [_class_of(factory) for factory in load(targets)]
    found: dict[str, ServiceShapes] = {}
    for cls in classes:
        if cls.name in found:
            raise UsageError(f"two of the targets are services named {cls.name!r}")
        endpoints = [
            Description(
                declared.name,
                declared.describe(),
                declared.signature.doc,
                declared.signature.stream,
            )
            for declared in cls.__declarations__.values()
        ]
        shapes = shape_service(cls.name, endpoints, doc=first_line(cls))
        if shapes.refused:
            raise UsageError("; ".join(shapes.refused.values()))
        found[cls.name] = shapes
    return list(found.values())


def _class_of(factory: Any) -> type[Service]:
    """Return the class of what a target makes, without making it where possible."""
    from kitmsg.service import Service

    if inspect.isclass(factory):
        return cast("type[Service]", factory)
    try:
        result = get_type_hints(factory).get("return")
    except (NameError, TypeError):
        result = None
    if inspect.isclass(result) and issubclass(result, Service) and result != Service:
        return result
    try:
        return type(factory())
    except TypeError as error:
        name = getattr(factory, "__name__", "the target")
        raise UsageError(
            f"{name}() cannot be called to see what it makes ({error}); annotate its result,"
            " or name the class"
        ) from error


def _from_bus(options: argparse.Namespace) -> list[ServiceShapes]:
    """Return the services on the bus; what they have no form for is told."""
    found = on_bus(options, lambda kit: _ask(kit, options.targets))
    for shapes in found:
        for sentence in shapes.refused.values():
            fail(f"left out {sentence}")
    return [shapes for shapes in found if shapes.methods]


async def _ask(kit: Kit, names: Sequence[str]) -> list[ServiceShapes]:
    from kitmsg.idl.service import shape_service

    catalog = await look_around(kit, names)
    return [
        shape_service(
            name,
            [each for each in catalog.endpoints if each.service == name],
            doc=catalog.services[name].description,
        )
        for name in sorted(catalog.services)
        if not names or name in names
    ]


def _read_lock(path: Path) -> Lock:
    from kitmsg.idl.lock import Lock

    try:
        return Lock.parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return Lock(str(path))
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error


def _placed(files: Mapping[str, str], out: str, suffix: str) -> dict[Path, str]:
    """Return texts by where they go."""
    path = Path(out)
    if path.suffix != suffix or path.is_dir():
        return {path / name: text for name, text in files.items()}
    if len(files) > 1:
        raise UsageError(
            f"there are {len(files)} files to write, {', '.join(files)}; give a folder:"
            f" --out {path.parent}/"
        )
    (text,) = files.values()
    return {path: text}


def _check(files: Mapping[Path, str], options: argparse.Namespace) -> int:
    """Tell what would change, as a diff; returns the exit code."""
    stale = {path: text for path, text in files.items() if _text(path) != text}
    for path, text in stale.items():
        before = _text(path).splitlines(keepends=True)
        after = text.splitlines(keepends=True)
        sys.stdout.writelines(
            difflib.unified_diff(before, after, str(path), f"{path} (now)")
        )
    if stale:
        names = ", ".join(str(path) for path in stale)
        fail(
            f"out of date: {names}; run kitmsg export {options.kind} without --check,"
            " with --out, and commit what it writes"
        )
    return 1 if stale else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _print(files: Mapping[str, str]) -> None:
    for name, text in files.items():
        if len(files) > 1:
            print(f"// {name}\n")
        print(text)


def _write(files: Mapping[Path, str]) -> None:
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from error
        print(f"wrote {path}", file=sys.stderr)
