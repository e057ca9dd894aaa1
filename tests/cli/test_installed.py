"""The installed package, beside a project whose modules have the names of others'."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.ports import free_port
from tests.worker.commands import Command, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.bus.embedded import EmbeddedServer

_ROOT = Path(__file__).parents[2]
_GREETER = """\
import gateways
from helper import greet
from kitmsg import Service, endpoint

class Greeter(Service):
    @endpoint(http="GET /hello/{name}")
    async def hello(self, name: str) -> str:
        return greet(name) + gateways.MARK
"""
_SHADOWS = ("http", "queue", "json", "socket", "selectors", "logging", "calendar")


class Installed(NamedTuple):
    """A virtual environment with the wheel in it, and nothing of the working tree."""

    bin: Path

    def run(self, *words: str, folder: Path, nats_url: str = "") -> str:
        """Run a command to its end in `folder`; returns what it printed."""
        environ = os.environ | {"NATS_URL": nats_url or "nats://127.0.0.1:1"}
        environ.pop("PYTHONPATH", None)
        program, *rest = words
        return subprocess.run(
            [self.bin / program, *rest],
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        ).stdout

    def start(self, *words: str, folder: Path, nats_url: str = "") -> Command:
        """Start a command that goes on."""
        program, *rest = words
        path = str(self.bin / program)
        outer = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"  # nats-server
        return Command(
            rest, folder, nats_url=nats_url, program=path, environ={"PATH": outer}
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel, and install it alone; what it needs is this environment's."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    _run(*build)
    (wheel,) = folder.glob("*.whl")
    _run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    pip = [sys.executable, "-m", "pip", "--python", folder / "venv", "install"]
    _run(*pip, "--quiet", "--no-deps", "--no-index", wheel)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installed(folder / "venv" / "bin")


def _run(*words: object) -> None:
    command = [str(word) for word in words]
    done = subprocess.run(
        command, cwd=_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A service, in a folder where every other module fails when it is imported."""
    for name in (*_SHADOWS, "types"):
        text = f"raise SystemExit('{name}.py of the project was imported')\n"
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "gateways").mkdir()
    (tmp_path / "gateways" / "__init__.py").write_text("MARK = '!'\n")
    (tmp_path / "helper.py").write_text("def greet(name):\n    return 'Hi ' + name\n")
    (tmp_path / "greeter.py").write_text(_GREETER)
    return tmp_path


@pytest.fixture
def serving(
    installed: Installed, project: Path, nats_server: EmbeddedServer
) -> Iterator[str]:
    """``kitmsg run`` in the project; gives the bus's address."""
    url = nats_server.url
    with installed.start(
        "kitmsg", "run", "greeter:Greeter", folder=project, nats_url=url
    ) as command:
        command.says("is serving")
        yield url


def test_what_is_installed_is_what_runs(installed: Installed, project: Path) -> None:
    """The environment imports the wheel's packages, not those of the working tree."""
    code = "import kitmsg, kitmsg_gateways as g; print(kitmsg.__file__, g.__file__)"
    found = installed.run("python", "-P", "-c", code, folder=project).split()
    assert all("site-packages" in place for place in found)
    assert not any(place.startswith(str(_ROOT)) for place in found)


def test_run_and_call(installed: Installed, project: Path, serving: str) -> None:
    """A worker serves, and imports the project's modules; `kitmsg call` gets an answer."""
    words = ("kitmsg", "call", "greeter.hello", "name=Ann")
    assert installed.run(*words, folder=project, nats_url=serving) == "Hi Ann!\n"


def test_as_a_module(installed: Installed, project: Path, serving: str) -> None:
    """`python -m kitmsg` is the same, but for names that Python's own -m imports."""
    call = ("-m", "kitmsg", "call", "greeter.hello", "name=Ann")
    safe = installed.run("python", "-P", *call, folder=project, nats_url=serving)
    assert safe == "Hi Ann!\n"
    (project / "types.py").unlink()
    assert installed.run("python", *call, folder=project, nats_url=serving) == safe
    words = ("-m", "kitmsg.cli", "--version")
    assert installed.run("python", *words, folder=project).startswith("kitmsg ")
    for kind in ("http", "grpc"):
        words = ("-m", f"kitmsg_gateways.{kind}", "--help")
        assert "--port" in installed.run("python", *words, folder=project)


@pytest.mark.parametrize("kind", ["proto", "thrift"])
def test_export(installed: Installed, project: Path, kind: str) -> None:
    """A file for other languages is written of the project's code."""
    words = ("kitmsg", "export", kind, "greeter:Greeter", "--out", f"out.{kind}")
    printed = installed.run(*words, folder=project)
    assert "service Greeter" in (project / f"out.{kind}").read_text(), printed


def test_gateway(installed: Installed, project: Path, serving: str) -> None:
    """A gateway's processes start, and route."""
    port = free_port()
    words = ("kitmsg", "gateway", "http", "--port", str(port))
    with installed.start(*words, folder=project, nats_url=serving):
        assert until(lambda: _get(port), "an answer over HTTP") == b'"Hi Ann!"'


def test_dev(installed: Installed, project: Path) -> None:
    """`kitmsg dev` has a bus, a worker and a gateway of its own."""
    ports = free_port(), free_port()
    words = ("--http", str(ports[0]), "--nats", str(ports[1]))
    with installed.start("kitmsg", "dev", "greeter.py", *words, folder=project):
        assert until(lambda: _get(ports[0]), "an answer over HTTP") == b'"Hi Ann!"'


def test_a_target_with_a_name_of_the_standard_library(
    installed: Installed, project: Path, nats_server: EmbeddedServer
) -> None:
    """A target that could never be imported is refused by name, however it is written."""
    url = nats_server.url
    for target in ("calendar.py", "calendar:Greeter"):
        words = ("kitmsg", "run", target)
        printed = installed.run(*words, folder=project, nats_url=url)
        assert "another module is named 'calendar'; rename the file" in printed


def _get(port: int) -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/hello/Ann") as answer:
            return bytes(answer.read())
    except (urllib.error.URLError, ConnectionError):
        return b""
