"""compose.yaml and Dockerfile: what can be known of them without Docker.

The schema in tests/data is the part of the Compose Specification (compose-spec.io) that
the file uses.  References between services, ports and times are checked here.
"""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
import os
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml

from kitmsg import Service

if TYPE_CHECKING:
    from kitmsg.bus.embedded import EmbeddedServer

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / "tests/data/compose.schema.json").read_text())
DRAIN_S = 25  # the worker's default drain timeout
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file as Compose reads it, anchors and merges resolved."""
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text()))


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    """Services by name."""
    return dict(compose["services"])


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    """Instructions and their arguments, continuation lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = (line.partition(" ") for line in text.splitlines())
    return [(word, rest) for word, _, rest in lines if word and word != "#"]


def seconds(duration: str) -> float:
    parts = re.findall(r"(\d+)(ms|h|m|s)", duration)
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def check_health(service: dict[str, Any]) -> str:
    return " ".join(service["healthcheck"]["test"])


def test_it_fits_the_schema(compose: dict[str, Any]) -> None:
    """Every key is one that Compose knows, with a value that it takes."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(compose)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("depend_on", {"nats": {"condition": "service_healthy"}}),
        ("depends_on", {"nats": {"condition": "service_well"}}),
        ("healthcheck", {"test": ["CMD", "true"], "every": "1s"}),
        ("healthcheck", {"test": ["true", "x"]}),
        ("ports", ["eighty"]),
        ("ports", [8080]),
        ("stop_grace_period", "30"),
        ("command", []),
        ("environment", {"NATS URL": "x"}),
        ("cap_drops", ["ALL"]),
        ("read_only", "yes"),
        ("security_opt", ["no-new-privilege:true"]),
        ("secrets", [{"ca": "x"}]),
        ("user", "root"),
    ],
)
def test_the_schema_refuses_mistakes(
    compose: dict[str, Any], key: str, value: object
) -> None:
    """A misspelt key or a wrong value does not pass, so the test above means something."""
    wrong = copy.deepcopy(compose)
    wrong["services"]["worker"][key] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(wrong)


def test_nothing_is_left_to_the_environment() -> None:
    """No variable needs to be set before the first `docker compose up`."""
    assert re.findall(r"\$\{?\w+", (ROOT / "compose.yaml").read_text()) == []


def test_dependencies_exist_and_can_become_healthy(services: dict[str, Any]) -> None:
    """What is waited for is a service, with a healthcheck where health is awaited."""
    awaited = [
        (name, condition["condition"])
        for service in services.values()
        for name, condition in service.get("depends_on", {}).items()
    ]
    assert awaited
    for name, condition in awaited:
        assert name in services
        assert condition == "service_healthy"
        assert "healthcheck" in services[name]


def test_networks_are_declared(
    compose: dict[str, Any], services: dict[str, Any]
) -> None:
    """Each network that a service is in has its entry, and no entry is without use."""
    used = {n for s in services.values() for n in s.get("networks", [])}
    assert used == set(compose["networks"])


def test_volumes_are_declared(
    compose: dict[str, Any], services: dict[str, Any]
) -> None:
    """Each named volume has its entry, and no entry is without use."""
    used = {v.split(":")[0] for s in services.values() for v in s.get("volumes", [])}
    assert used == set(compose["volumes"])


def test_ports_are_published_on_loopback_once(services: dict[str, Any]) -> None:
    """Nothing is open to the network by default, and no two services want one port."""
    published = [port for s in services.values() for port in s.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    hosts = [port.split(":")[1] for port in published]
    assert len(hosts) == len(set(hosts))


def test_the_bus_is_pinned_with_jetstream_and_monitoring(
    services: dict[str, Any],
) -> None:
    """The NATS image has a version; its health is asked on the monitoring port."""
    nats = services["nats"]
    assert re.fullmatch(r"nats:2\.\d+(\.\d+)?-alpine", nats["image"])
    assert "-js" in nats["command"]
    assert option(nats["command"], "-sd") in [v.split(":")[1] for v in nats["volumes"]]
    port = option(nats["command"], "-m")
    assert check_health(nats).endswith(f"http://127.0.0.1:{port}/healthz")
    assert check_health(nats).startswith("CMD wget ")


def test_the_bus_notices_soon_that_a_machine_is_gone(
    compose: dict[str, Any], services: dict[str, Any]
) -> None:
    """NATS's own ping interval is two minutes, and no option of its command sets another."""
    nats = services["nats"]
    config = next(
        c for c in nats["configs"] if c["target"] == option(nats["command"], "-c")
    )
    assert 'ping_interval: "5s"' in compose["configs"][config["source"]]["content"]


@pytest.mark.parametrize("name", ["worker", "gateway"])
def test_members_find_the_bus(services: dict[str, Any], name: str) -> None:
    """`NATS_URL` names a service of the file, at NATS's own port."""
    assert services[name]["environment"]["NATS_URL"] == "nats://nats:4222"
    assert "nats" in services
    assert "nats" in services[name]["depends_on"]


@pytest.mark.parametrize("name", ["worker", "gateway"])
def test_members_have_time_to_drain(services: dict[str, Any], name: str) -> None:
    """Docker waits longer than a drain takes before it kills."""
    assert seconds(services[name]["stop_grace_period"]) > DRAIN_S


@pytest.mark.parametrize("name", ["worker", "gateway"])
def test_commands_are_kitmsgs(services: dict[str, Any], name: str) -> None:
    """The command line of the image takes what the file says."""
    from kitmsg.cli import build_parser

    build_parser().parse_args(services[name]["command"])


def test_the_worker_serves_what_exists(services: dict[str, Any]) -> None:
    """The target of `kitmsg run` is a service that the image has."""
    module, _, name = services["worker"]["command"][1].partition(":")
    assert issubclass(getattr(importlib.import_module(module), name), Service)


async def is_ready(service: dict[str, Any], port: str, free: int) -> bool:
    """Run a service's healthcheck as Docker would, on another port."""
    _, _, flag, code = service["healthcheck"]["test"]
    words = (sys.executable, flag, code.replace(port, str(free)))
    check = await asyncio.create_subprocess_exec(
        *words, stderr=asyncio.subprocess.DEVNULL
    )
    return await check.wait() == 0


@pytest.mark.parametrize("name", ["worker", "gateway"])
async def test_members_become_ready_and_stop_when_told(
    services: dict[str, Any], nats_server: EmbeddedServer, free_tcp_port: int, name: str
) -> None:
    """On a real bus the command starts, its healthcheck passes, SIGTERM ends it well."""
    service = services[name]
    port = option(service["command"], "--health" if name == "worker" else "--port")
    words = [word.replace(port, str(free_tcp_port)) for word in service["command"]]
    words = [word.replace("0.0.0.0", "127.0.0.1") for word in words]
    member = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kitmsg.cli", *words),
        cwd=ROOT,
        env={**os.environ, "NATS_URL": nats_server.url},
    )
    try:
        async with asyncio.timeout(30):
            while not await is_ready(service, port, free_tcp_port):
                assert member.returncode is None
                await asyncio.sleep(0.1)
            member.terminate()
            assert await member.wait() == 0
    finally:
        if member.returncode is None:
            member.kill()
            await member.wait()


def test_workers_scale(services: dict[str, Any]) -> None:
    """Nothing in a worker is single: no name of its own, no port of the host."""
    worker = services["worker"]
    assert "container_name" not in worker
    assert "ports" not in worker
    assert "volumes" not in worker


def test_health_is_asked_where_it_is_served(services: dict[str, Any]) -> None:
    """The healthchecks of worker and gateway use the ports these were told."""
    worker, gateway = services["worker"], services["gateway"]
    health = option(worker["command"], "--health")
    assert f"http://127.0.0.1:{health}/readyz" in check_health(worker)
    port = option(gateway["command"], "--port")
    assert f"http://127.0.0.1:{port}/readyz" in check_health(gateway)
    assert gateway["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert option(gateway["command"], "--host") == "0.0.0.0"


@pytest.mark.parametrize("name", ["worker", "gateway"])
def test_health_is_asked_with_a_program_that_runs(
    services: dict[str, Any], name: str
) -> None:
    """The check of our own image is Python, which it has, and it compiles."""
    how, program, flag, code = services[name]["healthcheck"]["test"]
    assert (how, program, flag) == ("CMD", "python", "-c")
    compile(code, "healthcheck", "exec")


def test_the_image_passes_signals_on(dockerfile: list[tuple[str, str]]) -> None:
    """The program is process 1, not a child of a shell, so SIGTERM starts the drain."""
    words = dict(dockerfile)
    assert json.loads(words["ENTRYPOINT"]) == ["kitmsg"]
    assert isinstance(json.loads(words["CMD"]), list)


def test_the_image_does_not_run_as_root(dockerfile: list[tuple[str, str]]) -> None:
    """The last user is a number that is not root's, as Kubernetes wants it."""
    users = [rest for word, rest in dockerfile if word == "USER"]
    assert int(users[-1]) > 0


def test_the_image_copies_what_exists(dockerfile: list[tuple[str, str]]) -> None:
    """Every file and folder that goes into the image is in the repository."""
    copied = [
        name
        for word, rest in dockerfile
        if word == "COPY"
        for name in shlex.split(rest)[:-1]
    ]
    assert {"kitmsg", "gateways", "examples", "pyproject.toml"} <= set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_image_installs_extras_that_exist(
    dockerfile: list[tuple[str, str]],
) -> None:
    """Each extra in the `pip install` line is one of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (line,) = [rest for word, rest in dockerfile if word == "RUN" and "pip" in rest]
    found = re.search(r"\.\[([\w,]+)\]", line)
    assert found is not None
    assert set(found[1].split(",")) <= set(project["optional-dependencies"])
