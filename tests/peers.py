"""Programs in other languages that tests talk to, built once and kept.

``python -m tests.peers`` builds what is missing; ``make test`` does so before pytest, because
a first build downloads and compiles for minutes, which no test's time limit should count.
They lie in ``kitmsg-peers`` below ``XDG_CACHE_HOME``, by name and a hash of their sources.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.require import miss, need

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PEERS", "path"]

TESTS: Final = Path(__file__).parent
ROOT: Final = TESTS.parent


class Peer(NamedTuple):
    """A program, and how it is built.

    Args:
        program: Its file in the folder it is built in.
        needs: Programs without which it cannot be built.
        sources: Files and folders that it is made of.
        build: Builds it in a folder that has copies of the sources.
    """

    program: str
    needs: tuple[str, ...]
    sources: tuple[Path, ...]
    build: Callable[[Path], None]


def _run(folder: Path, *command: str) -> None:
    ran = subprocess.run(
        command, check=False, cwd=folder, capture_output=True, text=True
    )
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ran.stdout}{ran.stderr}")


def _gokit_jsonrpc(folder: Path) -> None:
    _run(folder / "gokit", "go", "build", "-o", "../client", ".")


def _gokit_addcli(folder: Path) -> None:
    make = "go:package_prefix=kitmsg-addsvc/,skip_remote"
    idl = str(folder / "addsvc.thrift")
    _run(folder / "gokit", "thrift", "-out", ".", "--gen", make, idl)
    _run(folder / "gokit", "go", "build", "-o", "../addcli", ".")


def _thrift_cpp(folder: Path) -> None:
    exported = [sys.executable, "-m", "kitmsg.cli", "export", "thrift"]
    target = "examples.addsvc.service:AddService"
    idl = subprocess.run(
        [*exported, target], check=True, cwd=ROOT, capture_output=True, text=True
    ).stdout
    (folder / "addsvc.thrift").write_text(idl)
    _run(folder, "thrift", "--gen", "cpp", "-out", ".", "addsvc.thrift")
    sources = [str(file) for file in folder.glob("*.cpp")]
    sources = [each for each in sources if "skeleton" not in each]
    _run(folder, "g++", "-O0", "-o", "client", *sources, "-lthrift")


def _consul(folder: Path) -> None:
    _run(folder / "consul", "go", "build", "-o", "../agent", ".")


def _logfmt(folder: Path) -> None:
    _run(folder / "logfmt", "go", "build", "-o", "../reader", ".")


def _go_micro(folder: Path) -> None:
    _run(folder / "micro", "go", "build", "-o", "../service", ".")


def _eureka(folder: Path) -> None:
    _run(folder / "eureka", "mvn", "-q", "-B", "package")
    (folder / "eureka/target/eureka.jar").rename(folder / "eureka.jar")


def _zipkin(folder: Path) -> None:
    copy = "dependency:copy-dependencies"
    _run(folder / "zipkin", "mvn", "-q", "-B", copy, "-DoutputDirectory=jars")
    next((folder / "zipkin/jars").glob("*.jar")).rename(folder / "zipkin.jar")


def _collector(folder: Path) -> None:
    builder = "go.opentelemetry.io/collector/cmd/builder@v0.165.0"
    _run(folder / "collector", "go", "run", builder, "--config", "builder.yaml")
    (folder / "collector/built/otelcol").rename(folder / "otelcol")


def _statsd_exporter(folder: Path) -> None:
    package = "github.com/prometheus/statsd_exporter@v0.28.0"
    _run(folder, "env", f"GOBIN={folder}", "go", "install", package)


def _jaeger(folder: Path) -> None:
    # Its go.mod replaces no modules, so `go install` takes it as it is.
    package = "github.com/jaegertracing/jaeger/cmd/all-in-one@v1.35.2"
    _run(folder, "env", f"GOBIN={folder}", "go", "install", package)


def _statsd(folder: Path) -> None:
    options = ("--silent", "--no-audit", "--no-fund", "--omit=optional")
    _run(folder, "npm", "install", *options, "--prefix", ".", "statsd@0.9.0")


PEERS: Final = {
    "gokit-jsonrpc": Peer(
        "client", ("go",), (TESTS / "gateways/http/gokit",), _gokit_jsonrpc
    ),
    "gokit-addcli": Peer(
        "addcli",
        ("go", "thrift"),
        (TESTS / "examples/gokit", ROOT / "examples/addsvc/addsvc.thrift"),
        _gokit_addcli,
    ),
    "thrift-cpp": Peer(
        "client",
        ("thrift", "g++"),
        (TESTS / "gateways/thrift/cpp/main.cpp",),
        _thrift_cpp,
    ),
    "consul": Peer("agent", ("go",), (TESTS / "discovery/consul",), _consul),
    "logfmt": Peer("reader", ("go",), (TESTS / "logs/logfmt",), _logfmt),
    "go-micro": Peer("service", ("go",), (TESTS / "balance/micro",), _go_micro),
    "eureka": Peer(
        "eureka.jar", ("javac", "mvn"), (TESTS / "discovery/eureka",), _eureka
    ),
    "zipkin": Peer("zipkin.jar", ("java", "mvn"), (TESTS / "tracing/zipkin",), _zipkin),
    "collector": Peer("otelcol", ("go",), (TESTS / "tracing/collector",), _collector),
    "jaeger-1.35": Peer("all-in-one", ("go",), (), _jaeger),
    "statsd-exporter-0.28": Peer("statsd_exporter", ("go",), (), _statsd_exporter),
    "statsd-0.9": Peer("node_modules/statsd/stats.js", ("node", "npm"), (), _statsd),
}


_LONG: Final = frozenset(
    {"consul", "collector", "jaeger-1.35"}
)  # to build; they begin first


def path(name: str) -> str:
    """Return the program of a peer; without it, skip the test, or fail it in CI."""
    for program in PEERS[name].needs:
        need(program)
    found = _place(name) / PEERS[name].program
    return (
        str(found)
        if found.exists()
        else miss(f"{name} is not built; python -m tests.peers builds it, once")
    )


def _place(name: str) -> Path:
    digest = hashlib.sha256()
    for source in PEERS[name].sources:
        files = sorted(source.rglob("*")) if source.is_dir() else [source]
        for file in files:
            if file.is_file():
                digest.update(file.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "kitmsg-peers" / f"{name}-{digest.hexdigest()[:12]}"


def _build(name: str) -> None:
    peer, place = PEERS[name], _place(name)
    lacking = [program for program in peer.needs if not shutil.which(program)]
    if lacking or (place / peer.program).exists():
        return
    print(f"Building {name}, which tests talk to, once: {place}", flush=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as made:
        folder = Path(made) / "build"
        folder.mkdir()
        for source in peer.sources:
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, folder / source.name)
        try:
            peer.build(folder)
        except SystemExit as exc:  # the test that needs it says so, too
            print(exc, file=sys.stderr)
            return
        shutil.rmtree(place, ignore_errors=True)
        folder.rename(place)


def build_all() -> None:
    """Build what is missing, two at once; whoever comes meanwhile waits."""
    folder = _place("consul").parent
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with ThreadPoolExecutor(2) as builders:
            list(
                builders.map(
                    _build, sorted(PEERS, key=_LONG.__contains__, reverse=True)
                )
            )


if __name__ == "__main__":
    build_all()
