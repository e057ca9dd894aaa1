"""``kitmsg new``: a small project that runs, and passes its own tests and lints."""

from __future__ import annotations

import difflib
import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kitmsg.cli.output import UsageError

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "run"]

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")

# What kitmsg and its extras import, installed here or not.
_IMPORTED: Final = frozenset(
    {
        *("aiobreaker", "aiohttp", "google", "grpc", "grpc_health", "grpc_reflection"),
        *("grpc_status", "grpc_tools", "jwt", "kitmsg", "kitmsg_gateways", "mcp"),
        *("msgpack", "msgspec", "nats", "nkeys", "prometheus_client", "pydantic"),
        *("pytest", "ruff", "tests", "thriftpy2", "uvloop", "watchfiles"),
    }
)

_FILES: Final = {
    "pyproject.toml": """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{dist}"
version = "0.1.0"
description = "A service on NATS."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["kitmsg"]

[dependency-groups]
dev = ["kitmsg[all]", "pytest", "ruff"]

[tool.hatch.build.targets.wheel]
only-include = ["{module}.py"]

[tool.kitmsg]
services = ["{module}:{cls}"]

[tool.pytest.ini_options]
pythonpath = ["."]
testpaths = ["tests"]
""",
    "{module}.py": '''\
"""The service {name}.

    kitmsg dev {module}.py
    curl localhost:8080/hello/Ann

Run as ``python {module}.py`` it is a worker on the bus that NATS_URL names.
"""

import kitmsg
from kitmsg import Service, endpoint


class {cls}(Service):
    """Says hello."""

    version = "0.1.0"

    @endpoint(http="GET /hello/{{name}}", idempotent=True)
    async def hello(self, name: str) -> str:
        """Greet somebody by name."""
        return f"Hello, {{name}}!"


if __name__ == "__main__":
    kitmsg.run({cls})
''',
    "tests/test_{module}.py": '''\
"""The service {name}, called over a bus in memory: no server, no waiting."""

import pytest
from kitmsg import Kit
from kitmsg.errors import InvalidArgument

from {module} import {cls}


async def test_says_hello(kit: Kit) -> None:
    """A caller is greeted by name."""
    await kit.serve({cls})
    assert await kit.client({cls}).hello("Ann") == "Hello, Ann!"


async def test_refuses_a_name_that_is_no_text(kit: Kit) -> None:
    """A request that does not fit names the field."""
    await kit.serve({cls})
    with pytest.raises(InvalidArgument, match="name"):
        await kit.call("{service}.hello", name=5)
''',
    "README.md": """\
# {name}

A service on NATS, made with kitmsg.

Install, in a virtual environment:

    pip install 'kitmsg[all]' pytest ruff

Try it; this starts a NATS server of its own, and follows changes:

    kitmsg dev {module}.py
    curl localhost:8080/hello/Ann
    kitmsg call {service}.hello name=Ann

Test it:

    pytest
    ruff check

Run it, on the bus that `NATS_URL` names:

    kitmsg run --workers 2 --health 9090
""",
    ".gitignore": """\
.venv/
__pycache__/
.pytest_cache/
.ruff_cache/
dist/
""",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("name", metavar="NAME", help="name of the project's folder")


def run(options: argparse.Namespace) -> int:
    """Write the project; returns the exit code."""
    folder = Path(options.name)
    words = _words(folder.name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{str(folder)!r} exists and is not an empty folder")
    for path, text in _FILES.items():
        file = folder / path.format(**words)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.format(**words), encoding="utf-8")
    print(f"{folder}/ is ready. Next:\n")
    print(f"  cd {folder}\n  kitmsg dev {words['module']}.py")
    if find_spec("pytest") is None:
        print("  pip install pytest")
    print("  pytest")
    return 0


def _words(name: str) -> dict[str, str]:
    """Return the names that the files use.

    Raises:
        UsageError: `name` cannot be a project, a module and a class.
    """
    module = re.sub(r"\W", "_", name).lower()
    if not _NAME.fullmatch(name) or keyword.iskeyword(module) or _is_taken(module):
        hint = "letters, digits, - and _, and no module that something here imports"
        near = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-0123456789")
        fits = near and near != name and difflib.SequenceMatcher(a=near, b=name).ratio()
        raise UsageError(
            f"{name!r} cannot name a project: {hint}"
            + (f"; {near!r} can" if fits else "")
        )
    cls = "".join(part[:1].upper() + part[1:] for part in re.split(r"[-_]+", name))
    return {
        "name": name,
        "dist": name.lower(),
        "module": module,
        "cls": cls,
        "service": re.sub(
            r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls
        ).lower(),
    }


def _is_taken(module: str) -> bool:
    """Tell whether the project, or what it needs, imports another module of that name."""
    import sys

    return (
        module in sys.stdlib_module_names
        or module in _IMPORTED
        or _is_installed(module)
    )


def _is_installed(module: str) -> bool:
    """Tell whether the name is found on the path; the working folder does not count."""
    found = find_spec(module)
    if found is None:
        return False
    places = found.submodule_search_locations or (found.origin,)
    here = Path.cwd()
    return any(place and Path(place).parent != here for place in places)
