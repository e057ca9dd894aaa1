"""``kitmsg dev``: everything runs, follows changes, survives mistakes, leaves nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.worker.commands import Command, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kitmsg.bus.embedded import EmbeddedServer
    from tests.cli.conftest import Ran

CODE = '''\
from kitmsg import Service, endpoint

class Greeter(Service):
    """Says hello."""

    @endpoint(http="GET /hello/{name}")
    async def hello(self, name: str) -> str:
        return f"Hello, {name}!"
'''


def free() -> int:
    """Return a port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str) -> str:
    """Return the body of a page; "" for an error."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return str(response.read().decode())
    except (urllib.error.URLError, OSError):
        return ""


def refused(url: str) -> tuple[int, str | None, str]:
    """Return status, ``Retry-After`` and body of an error."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, timeout=5)
    with caught.value as error:
        return error.code, error.headers["Retry-After"], error.read().decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the greeter, and one for temporary files."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "greeter.py").write_text(CODE)
    (tmp_path / "tmp").mkdir()
    return tmp_path


@pytest.fixture
def dev(folder: Path) -> Iterator[Callable[..., Command]]:
    """Return what starts ``kitmsg dev`` on free ports."""
    with ExitStack() as stack:

        def run(*words: str, nats_url: str = "", **environ: str) -> Command:
            args = ["-m", "kitmsg.cli", "dev", *words]
            if "--http" not in words:
                args += ["--http", str(free())]
            if "--nats" not in words and not nats_url:
                args += ["--nats", str(free())]
            environ = {"TMPDIR": str(folder / "tmp"), **environ}
            command = Command(args, folder, nats_url=nats_url, environ=environ)
            return stack.enter_context(command)

        yield run


def http_of(command: Command) -> str:
    """Return the gateway's address once the table is there."""
    command.says("Ctrl-C ends it")
    found = re.search(r"HTTP\s+(http://\S+)", command.output)
    assert found, command.output
    return found[1]


def test_serves_and_leaves_nothing(dev: Callable[..., Command], folder: Path) -> None:
    """HTTP and the bus answer as the table says; Ctrl-C leaves no process, no file."""
    command = dev("code/greeter.py")
    url = http_of(command)
    assert json.loads(get(f"{url}/hello/Ann")) == "Hello, Ann!"
    assert "Greeter" in get(f"{url}/openapi.json") or "greeter" in get(
        f"{url}/openapi.json"
    )
    assert f"curl {url}/hello/Ann" in command.output
    assert "kitmsg call greeter.hello name=Ann" in command.output
    assert len(command.family()) >= 2  # a worker, a server
    command.interrupt()
    assert command.ends() == 0
    command.leaves_nothing()
    assert not list((folder / "tmp").iterdir())
    assert "Traceback" not in command.output


def test_opens_the_other_gateways_where_asked(dev: Callable[..., Command]) -> None:
    """The table has gRPC and Thrift too, and they answer."""
    command = dev("code/greeter.py", "--grpc", str(free()), "--thrift", str(free()))
    http_of(command)
    found = re.search(r"gRPC\s+grpc://(\S+)", command.output)
    assert found
    assert re.search(r"Thrift\s+thrift://\S+", command.output)
    with grpc.insecure_channel(found[1]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="greeter.Greeter")
        answer = stub.Check(request, timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    command.interrupt()
    assert command.ends() == 0


def test_a_service_that_is_starting_is_no_404(
    dev: Callable[..., Command], folder: Path
) -> None:
    """The gateway is there first: until the worker serves, what it lacks is unavailable."""
    started = folder / "go"
    slow = (
        "\n    async def start(self) -> None:\n        import asyncio, pathlib\n"
        f"        while not pathlib.Path({str(started)!r}).exists():\n"
        "            await asyncio.sleep(0.02)\n"
    )
    (folder / "code" / "greeter.py").write_text(CODE + slow)
    port = free()
    command = dev("code/greeter.py", "--http", str(port))
    url = f"http://127.0.0.1:{port}"
    while not get(f"{url}/healthz"):
        time.sleep(0.02)
    code, retry_after, text = refused(f"{url}/hello/Ann")
    assert (code, retry_after) == (503, "1")
    assert "the worker is starting" in text
    started.touch()
    assert json.loads(get(f"{http_of(command)}/hello/Ann")) == "Hello, Ann!"
    assert refused(f"{url}/nowhere")[0] == 404


def test_gateways_take_their_options(dev: Callable[..., Command]) -> None:
    """``--set`` says them as ``kitmsg gateway`` does."""
    command = dev("code/greeter.py", "--set", "http.title=Shop")
    assert (
        json.loads(get(f"{http_of(command)}/openapi.json"))["info"]["title"] == "Shop"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title=Shop", "write KIND.NAME=VALUE"),
        ("http.titel=Shop", "did you mean 'title'?"),
        ("http.timeout=soon", "timeout cannot be 'soon'"),
        ("http.timeout=0", "timeout must be positive"),
    ],
)
def test_an_option_that_is_wrong_is_a_sentence(
    dev: Callable[..., Command], text: str, said: str
) -> None:
    """With the exit code of a wrong command."""
    command = dev("code/greeter.py", "--set", text)
    assert command.ends() == 2
    assert said in command.output


def test_a_change_replaces_the_worker_unnoticed(
    dev: Callable[..., Command], folder: Path
) -> None:
    """A saved file is served soon, and no call fails meanwhile."""
    command = dev("code")
    url = http_of(command)
    answers: list[str] = []
    ended = threading.Event()

    def load() -> None:
        while not ended.is_set():
            answers.append(get(f"{url}/hello/Ann"))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        file = folder / "code" / "greeter.py"
        file.write_text(CODE.replace("Hello", "Good day"))
        until(lambda: answers[-1:] == ['"Good day, Ann!"'], "the new code")
        command.says("is drained")
    finally:
        ended.set()
        thread.join()
    assert set(answers) == {'"Hello, Ann!"', '"Good day, Ann!"'}


def test_a_broken_edit_keeps_the_old_worker(
    dev: Callable[..., Command], folder: Path
) -> None:
    """Broken code is named by file and line, the old code serves, a good save heals."""
    command = dev("code/greeter.py")
    url = http_of(command)
    file = folder / "code" / "greeter.py"
    file.write_text("nonsense(\n")
    command.says("code/greeter.py:1: SyntaxError")
    command.says("the old worker goes on")
    assert get(f"{url}/hello/Ann") == '"Hello, Ann!"'
    file.write_text(CODE.replace("Hello", "Again"))
    until(lambda: get(f"{url}/hello/Ann") == '"Again, Ann!"', "the good save")


@pytest.mark.parametrize("target", ["code/greeter.py", "code", "greeter:Greeter"])
@pytest.mark.parametrize("place", ["code/parts/deep", "beside", "installed/pkg"])
def test_a_change_of_any_module_is_followed(
    dev: Callable[..., Command], folder: Path, target: str, place: str
) -> None:
    """Of whatever the service imports: below its folder, beside it, or from elsewhere."""
    words = folder / place / "words.py"
    words.parent.mkdir(parents=True)
    words.write_text("HELLO = 'Hello'\n")
    code = CODE.replace('f"Hello, ', 'f"{words.HELLO}, ')
    (folder / "code" / "greeter.py").write_text(f"import words\n{code}")
    url = http_of(dev(target, PYTHONPATH=f"{folder / 'code'}:{words.parent}"))
    assert get(f"{url}/hello/Ann") == '"Hello, Ann!"'
    words.write_text("HELLO = 'Good day'\n")
    until(lambda: get(f"{url}/hello/Ann") == '"Good day, Ann!"', "the new words")
    words.write_text("nonsense(\n")
    until(lambda: get(f"{url}/hello/Ann") == '"Good day, Ann!"', "the old worker")
    words.write_text("HELLO = 'Again'\n")
    until(lambda: get(f"{url}/hello/Ann") == '"Again, Ann!"', "the good save")


def test_a_module_that_is_imported_later_is_followed(
    dev: Callable[..., Command], folder: Path
) -> None:
    """Also one that a call imports."""
    (folder / "late").mkdir()
    (folder / "late" / "words.py").write_text("HELLO = 'Hello'\n")
    code = CODE.replace("        return", "        import words\n\n        return")
    code = code.replace('f"Hello, ', 'f"{words.HELLO}, ')
    (folder / "code" / "greeter.py").write_text(code)
    command = dev("code/greeter.py", PYTHONPATH=str(folder / "late"))
    url = http_of(command)
    assert get(f"{url}/hello/Ann") == '"Hello, Ann!"'

    def edit() -> bool:
        if "changed:" not in command.output:  # nothing else tells that it is followed
            (folder / "late" / "words.py").write_text("HELLO = 'Good day'\n")
        return get(f"{url}/hello/Ann") == '"Good day, Ann!"'

    until(edit, "the new words")


def test_without_reload_broken_code_ends_it(
    dev: Callable[..., Command], folder: Path
) -> None:
    """There is no change to wait for: the error is the end, with a code that tells."""
    (folder / "code" / "greeter.py").write_text("import no_such_thing\n")
    command = dev("code/greeter.py", "--no-http", "--no-reload")
    assert command.ends() == 2
    assert "code/greeter.py:1: ModuleNotFoundError" in command.output
    assert "waiting for a change" not in command.output


def test_a_nats_url_of_long_ago_is_said(cli: Callable[..., Ran], folder: Path) -> None:
    """Nothing answers where NATS_URL points: it says so, and what to do."""
    target = str(folder / "code" / "greeter.py")
    ran = cli("dev", target, "--no-http", nats_url="nats://127.0.0.1:1")
    assert ran.code == 3
    assert "NATS_URL is set, and nothing answers there" in ran.err
    assert "Unset it" in ran.err


def test_a_later_change_overtakes_one_that_hangs(
    dev: Callable[..., Command], folder: Path
) -> None:
    """Code whose start never ends does not keep the next save from being served."""
    command = dev("code/greeter.py", "--no-http")
    command.says("Ctrl-C ends it")
    file = folder / "code" / "greeter.py"
    hang = "\n    async def start(self) -> None:\n        print('hangs')\n"
    hang += "        await __import__('asyncio').Event().wait()\n"
    file.write_text(CODE + hang)
    command.says("hangs")
    file.write_text(CODE)
    command.says("the new worker serves")


def test_starts_with_broken_code_and_waits(
    dev: Callable[..., Command], folder: Path
) -> None:
    """Code that is broken from the start is named, and a good save is served."""
    file = folder / "code" / "greeter.py"
    file.write_text("import no_such_thing\n")
    command = dev("code/greeter.py")
    command.says("code/greeter.py:1: ModuleNotFoundError")
    command.says("waiting for a change")
    file.write_text(CODE)
    assert get(f"{http_of(command)}/hello/Ann") == '"Hello, Ann!"'
    command.send(signal.SIGTERM)
    assert command.ends() == 0


def test_a_taken_port_is_said(dev: Callable[..., Command]) -> None:
    """A port that is taken is named, and the next free one used."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = dev("code/greeter.py", "--http", str(port), "--no-reload")
        url = http_of(command)
        assert f"port {port} is taken: HTTP uses {url.rpartition(':')[2]}" in (
            command.output
        )
        assert get(f"{url}/hello/Ann")


@pytest.mark.parametrize("port", ["-5", "70000", "web"])
def test_what_is_no_port_is_said(cli: Callable[..., Ran], port: str) -> None:
    """A port that cannot be is a mistake of the command, not one that is taken."""
    ran = cli("dev", "greeter.py", "--nats", port)
    assert ran.code == 2
    assert f"{port!r} is not a port (0 to 65535)" in ran.err


def test_uses_the_bus_that_is_there(
    dev: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """With NATS_URL set no server is started; without HTTP no gateway either."""
    command = dev("code/greeter.py", "--no-http", nats_url=nats_server.url)
    command.says("Ctrl-C ends it")
    assert nats_server.url in command.output
    assert "curl" not in command.output
    assert [process.pid for process in command.family()] == [
        process.pid for process in command.workers()
    ]
    command.interrupt()
    assert command.ends() == 0


def test_a_killed_dev_leaves_nothing_either(
    dev: Callable[..., Command], folder: Path
) -> None:
    """After kill -9 the worker, the server and its store go, too."""
    command = dev("code/greeter.py", "--no-http")
    command.says("Ctrl-C ends it")
    command.send(signal.SIGKILL)
    command.leaves_nothing()
    until(lambda: not list((folder / "tmp").iterdir()), "no file left")


def test_serves_what_the_project_names(
    dev: Callable[..., Command], folder: Path
) -> None:
    """Without a target it serves what [tool.kitmsg] names."""
    (folder / "pyproject.toml").write_text(
        '[tool.kitmsg]\nservices = ["code/greeter.py"]\n'
    )
    command = dev("--no-http")
    command.says("kitmsg call greeter.hello")


def test_a_closed_terminal_ends_it(dev: Callable[..., Command]) -> None:
    """SIGHUP, which a closing terminal sends, stops everything."""
    command = dev("code/greeter.py", "--no-http")
    command.says("Ctrl-C ends it")
    command.family()
    os.killpg(command.process.pid, signal.SIGHUP)
    assert command.ends() == 0
    command.leaves_nothing()
