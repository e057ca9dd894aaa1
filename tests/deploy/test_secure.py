"""The profile `secure` of compose.yaml without Docker: its files, commands and variables.

A folder stands for the root of the containers: /etc/nats has the configuration, /run/secrets
what make-secrets.sh made.  The processes are real; addresses and ports are the only change.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import anyio
import pytest
import yaml

import kitmsg
from examples.addsvc.service import AddService
from kitmsg.bus.embedded import find_server
from kitmsg.bus.nats import NatsBus
from kitmsg.cli.app import main
from kitmsg.errors import KitError
from tests.ports import free_ports
from tests.require import need
from tests.worker.commands import Command, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy/secure"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = {
    name: service
    for name, service in COMPOSE["services"].items()
    if "secure" in service.get("profiles", [])
}
PAGE = {"worker-secure": 0, "gateway-secure": 1}


def make_secrets(folder: Path) -> None:
    need("openssl")
    subprocess.run(
        [DEPLOY / "make-secrets.sh", folder], check=True, capture_output=True
    )


@dataclass
class Deployment:
    """The running profile: where its parts listen, and its secrets."""

    root: Path
    bus: str
    door: int
    pages: dict[str, int]
    commands: list[Command]

    def secret(self, name: str) -> str:
        return (self.root / "run/secrets" / name).read_text().strip()

    def path(self, name: str) -> str:
        return str(self.root / "run/secrets" / name)

    def page(self, name: str, path: str) -> str:
        """Return a page of a container's own port, which its health check asks."""
        url = f"http://127.0.0.1:{self.pages[name]}{path}"
        with urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())

    def is_ready(self, name: str) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.page(name, "/readyz"))
        return False

    def ask(self, key: str = "", scheme: str = "https") -> tuple[int, str]:
        """Add 1 and 2 at the door, with an API key."""
        request = Request(
            f"{scheme}://localhost:{self.door}/sum",
            json.dumps({"a": 1, "b": 2}).encode(),
            {"Content-Type": "application/json"} | ({"X-API-Key": key} if key else {}),
        )
        trusting = ssl.create_default_context(cafile=self.path("ca"))
        try:
            with urlopen(request, timeout=10, context=trusting) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def localized(self, name: str, text: str) -> str:
        """Return a word of compose.yaml with the addresses and paths of this folder."""
        text = text.replace("/run/secrets", str(self.root / "run/secrets"))
        text = text.replace("tls://nats-secure:4222", self.bus)
        text = text.replace("--host=0.0.0.0", "--host=127.0.0.1")
        text = text.replace("--health=8081", f"--health={self.pages.get(name)}")
        return text.replace("--port=8443", f"--port={self.door}")

    def start(self, name: str) -> Command:
        """Start a container's command with its variables, and wait until it is ready."""
        service = SERVICES[name]
        words = [self.localized(name, word) for word in service["command"]]
        environ = {
            key: self.localized(name, value)
            for key, value in service["environment"].items()
        }
        environ["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "gateways")))
        command = Command(["-m", "kitmsg.cli", *words], self.root, environ=environ)
        self.commands.append(command)
        until(lambda: self.is_ready(name) or command.process.poll(), f"{name} is ready")
        assert command.process.poll() is None, command.output
        return command


@pytest.fixture(scope="module")
def deployed(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    """The server, the worker and the gateway, as compose.yaml starts them."""
    root = tmp_path_factory.mktemp("secure")
    make_secrets(root / "run/secrets")
    bus, monitor, door, worker, gateway = free_ports(5)
    for config in SERVICES["nats-secure"]["configs"]:
        target = root / config["target"].lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        source = ROOT / COMPOSE["configs"][config["source"]]["file"]
        shutil.copy(source, target)
    file = root / "etc/nats/nats.conf"
    text = file.read_text().replace("/run/secrets", str(root / "run/secrets"))
    text = text.replace("0.0.0.0:4222", f"127.0.0.1:{bus}")
    file.write_text(text.replace("127.0.0.1:8222", f"127.0.0.1:{monitor}"))
    pages = {"worker-secure": worker, "gateway-secure": gateway}
    made = Deployment(root, f"tls://localhost:{bus}", door, pages, [])
    with contextlib.ExitStack() as stack:
        server = Command(["-c", str(file)], root, program=find_server())
        stack.enter_context(server).says("Server is ready")
        for name in pages:
            stack.enter_context(made.start(name))
        yield made
        for command in made.commands:
            command.send(15)
            assert command.ends() == 0


@contextlib.asynccontextmanager
async def connected(
    deployed: Deployment, name: str, **options: Any
) -> AsyncIterator[NatsBus]:
    chosen = {
        "user": name,
        "password": deployed.secret(f"{name}-password"),
        "tls_ca": deployed.path("ca"),
        "inbox_prefix": f"_INBOX_{name}",
        **options,
    }
    bus = await NatsBus.connect(deployed.bus, **chosen)
    try:
        yield bus
    finally:
        await bus.close()


def test_the_users_are_those_that_the_command_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A change of the service's rights changes the file, and so is seen in review."""
    target = SERVICES["worker-secure"]["command"][1]
    main(["acl", target, "--passwords", "../../run/secrets/nats-passwords"])
    assert capsys.readouterr().out == (DEPLOY / "users.conf").read_text()


def test_a_call_with_a_key_is_answered(deployed: Deployment) -> None:
    """From the door over both TLS connections to the worker and back."""
    assert deployed.ask(deployed.secret("api-key")) == (200, "3")


def witness(callers: list[str]) -> AddService:
    """Return another instance of the service, which tells who called."""

    def noted(call: Endpoint[Any, Any]) -> Endpoint[Any, Any]:
        async def note(ctx: Context, request: Any) -> Any:
            caller = ctx.principal
            callers.append(f"{caller.method} {caller.name}" if caller else "nobody")
            return await call(ctx, request)

        return note

    made = AddService()
    made.middleware = (AddService.middleware[0], noted)
    return made


async def test_services_learn_who_called(deployed: Deployment) -> None:
    """The gateway signs whose key it was, and the signature fits the trusted keys."""
    callers: list[str] = []
    key = deployed.secret("api-key")
    async with kitmsg.connect(
        deployed.bus,
        user="addsvc",
        password=deployed.secret("addsvc-password"),
        tls_ca=deployed.path("ca"),
        inbox_prefix="_INBOX_addsvc",
        trust=deployed.path("trusted-keys"),
        audience="addsvc.example",
    ) as kit:
        await kit.serve(witness(callers))
        for _ in range(200):  # the worker of the profile gets its share
            if callers:
                break
            assert await asyncio.to_thread(deployed.ask, key) == (200, "3")
    assert callers[:1] == ["key demo"]


@pytest.mark.parametrize("key", ["", "kit_0000"])
def test_a_stranger_at_the_door_is_refused(deployed: Deployment, key: str) -> None:
    """Without a key, and with one that nobody has."""
    assert deployed.ask(key)[0] == 401


def test_the_door_speaks_tls_only(deployed: Deployment) -> None:
    """A key that is sent in plain text gets no answer."""
    with pytest.raises((URLError, ConnectionError)):
        deployed.ask(deployed.secret("api-key"), scheme="http")


async def test_the_bus_serves_a_client_with_its_own_user(deployed: Deployment) -> None:
    """So what is refused below is so for the reason that is named."""
    async with kitmsg.connect(
        deployed.bus,
        user="client",
        password=deployed.secret("client-password"),
        tls_ca=deployed.path("ca"),
        inbox_prefix="_INBOX_client",
    ) as kit:
        assert await kit.client(AddService).sum(1, 2) == 3


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"user": "", "password": ""}, id="no-user"),
        pytest.param({"password": "guess"}, id="wrong-password"),
        pytest.param({"user": "gateway"}, id="the-user-of-another"),
        pytest.param({"tls_ca": ""}, id="no-authority"),
    ],
)
async def test_the_bus_refuses_who_does_not_prove_itself(
    deployed: Deployment, options: dict[str, str]
) -> None:
    """No user, a password that is not the user's; and a server that is not known."""
    with pytest.raises(KitError):
        async with connected(deployed, "client", **options):
            pass


async def test_the_bus_refuses_a_connection_without_tls(deployed: Deployment) -> None:
    """A client that goes on in plain text after the server's INFO hears no word of PONG."""
    port = int(deployed.bus.rpartition(":")[2])
    login = {
        "user": "client",
        "pass": deployed.secret("client-password"),
        "verbose": True,
    }
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        info = json.loads((await stream.receive()).removeprefix(b"INFO "))
        assert info["tls_required"] is True
        heard = b""
        with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            await stream.send(f"CONNECT {json.dumps(login)}\r\nPING\r\n".encode())
            while True:
                heard += await stream.receive()
    assert b"PONG" not in heard
    assert b"+OK" not in heard


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("client", "addsvc.sum"),
        ("client", ">"),
        ("client", "_INBOX_gateway.>"),
        ("gateway", "addsvc.sum"),
        ("addsvc", "_INBOX_gateway.>"),
        ("addsvc", "orders.place"),
    ],
)
async def test_a_user_hears_its_own_subjects_only(
    deployed: Deployment, user: str, subject: str
) -> None:
    """Neither the calls of a service nor the replies to another."""
    denied: list[str] = []
    async with connected(deployed, user) as bus:
        bus.watch_denials(denied.append)
        bus.subscribe(subject, lambda _: None)
        await bus.flush()
    assert denied == [subject.lower()]


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("client", "_kit.up.addsvc"),
        ("gateway", "$JS.API.STREAM.LIST"),
        ("addsvc", "addsvc.sum"),
        ("addsvc", "_INBOX_gateway.1"),
    ],
)
async def test_a_user_sends_to_its_own_subjects_only(
    deployed: Deployment, user: str, subject: str
) -> None:
    """Neither the presence of a service nor an answer that nobody asked for."""
    denied: list[str] = []
    async with connected(deployed, user) as bus:
        bus.watch_denials(denied.append)
        bus.publish(subject, b"")
        await bus.flush()
    assert denied == [subject.lower()]


@pytest.mark.parametrize("name", list(SERVICES))
def test_containers_are_hardened(name: str) -> None:
    """Read-only, without capabilities, not root, with nothing secret in the open."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("user", "10001") != "0"
    assert "volumes" not in service
    assert "NATS_PASSWORD" not in service.get("environment", {})
    assert set(service.get("depends_on", {})) <= set(SERVICES)


def test_the_bus_is_in_a_network_of_its_own() -> None:
    """Only the door's port is published; the bus's network reaches nothing else."""
    assert COMPOSE["networks"]["bus"] == {"internal": True}
    assert [name for name, s in SERVICES.items() if "ports" in s] == ["gateway-secure"]
    assert SERVICES["nats-secure"]["networks"] == ["bus"]
    assert SERVICES["worker-secure"]["networks"] == ["bus"]


@pytest.mark.parametrize("name", list(SERVICES))
def test_a_container_gets_the_secrets_that_it_names(name: str) -> None:
    """Those in its command, variables and configuration, all declared, and no others."""
    service = SERVICES[name]
    text = json.dumps([service["command"], service.get("environment", {})])
    for config in service.get("configs", []):
        text += (ROOT / COMPOSE["configs"][config["source"]]["file"]).read_text()
    named = set(re.findall(r"run/secrets/([\w-]+)", text))
    assert named == set(service["secrets"])
    assert named <= set(COMPOSE["secrets"])


def test_the_script_makes_every_secret_and_keeps_what_is_there(tmp_path: Path) -> None:
    """It can be run again to renew one; others cannot enter the folder."""
    folder = tmp_path / "secrets"
    make_secrets(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {Path(s["file"]).name for s in COMPOSE["secrets"].values()} <= set(before)
    assert {s["file"] for s in COMPOSE["secrets"].values()} == {
        f"./deploy/secure/secrets/{name}" for name in COMPOSE["secrets"]
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "ca-key").stat().st_mode) == 0o600
    (folder / "gateway-password").unlink()
    make_secrets(folder)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"gateway-password", "nats-passwords"}


def test_secrets_are_neither_committed_nor_in_an_image() -> None:
    """Git and the builder leave the folder out."""
    for name in (".gitignore", ".dockerignore"):
        assert "deploy/secure/secrets/" in (ROOT / name).read_text().splitlines()


@pytest.mark.parametrize("name", list(PAGE))
def test_health_checks_pass(deployed: Deployment, name: str) -> None:
    """The check of each container of ours, as Docker runs it."""
    how, _, flag, code = SERVICES[name]["healthcheck"]["test"]
    assert how == "CMD"
    words = [sys.executable, flag, code.replace("8081", str(deployed.pages[name]))]
    assert subprocess.run(words, check=False).returncode == 0
