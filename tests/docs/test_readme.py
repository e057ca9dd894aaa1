"""README and guide are contracts: their commands run as they stand, their snippets work.

A ``sh`` block is one session in a folder that holds the page's own files.  Commands that
serve run beside the rest and have to end well; a ``# prints`` says what a command prints,
``# soon prints`` and ``# soon shows`` what it does in a while, all or a part of it.
Ports are replaced by free ones, so that nothing on this machine is in the way.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import dataclasses
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest

from kitmsg.worker.settings import Settings
from tests.postgres import empty_database, postgres  # noqa: F401

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "examples" / "shop" / "README.md"
PAGES = [
    ROOT / "README.md",
    ROOT / "examples" / "addsvc" / "README.md",
    SHOP,
    *sorted((ROOT / "docs").glob("*.md")),
]
README = PAGES[0].read_text()
BIN = Path(sys.executable).parent
SERVES = re.compile(r"kitmsg (dev|run|gateway|upstream)\b|python -m examples\.addsvc$")
SECONDS = 45.0


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def files(text: str) -> dict[str, str]:
    """Return the Python blocks that name a file in their first line, by that name."""
    found = (re.match(r"# (\w+\.py)\n", block) for block in blocks(text, "python"))
    return {match[1]: match.string for match in found if match}


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Session:
    """Runs the commands of one block.

    Args:
        folder: Where they run.
        nats_url: Of a server that is there.
        fixed: More of the environment, whatever the block exports.
    """

    def __init__(self, folder: Path, nats_url: str, **fixed: str) -> None:
        self._folder = folder
        self._fixed = {"NATS_URL", *fixed}
        known = (8080, 9090, 4222, 8081, 8082, 8083)
        self._ports = {port: free_port() for port in known}
        self._environ = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "NATS_URL": nats_url,
            "NO_COLOR": "1",
            **fixed,
        }
        self._served: list[tuple[str, subprocess.Popen[bytes]]] = []

    def run(self, line: str) -> None:
        """Run one line, and check what it should print."""
        command, _, comment = line.partition("#")
        words = shlex.split(self._with_ports(command.strip()))
        if not words or words[0] == "export":
            self._export(words)
            return
        if SERVES.match(command.strip()):
            self._serve(words)
            return
        if comment.strip().startswith("soon "):
            self._await_output(words, comment)
            return
        printed = self._output(words)
        _, is_told, wanted = comment.partition("prints ")
        if is_told:
            assert printed == wanted.strip(), line

    def _export(self, words: list[str]) -> None:
        for name, _, value in (word.partition("=") for word in words[1:]):
            if name not in self._fixed:
                self._environ[name] = value

    def _output(self, words: list[str]) -> str:
        """Return what a command prints; it has to succeed."""
        done = subprocess.run(
            words,
            cwd=self._folder,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def _await_output(self, words: list[str], comment: str) -> None:
        """Run a command again and again until it prints what it should."""
        _, verb, wanted = comment.strip().split(" ", 2)
        until = time.monotonic() + SECONDS
        while True:
            printed = self._output(words)
            if printed == wanted or (verb == "shows" and wanted in printed):
                return
            assert time.monotonic() < until, f"{words}\n{printed}\n{self._log()}"
            time.sleep(0.1)

    def stop(self) -> None:
        """End what serves, as Ctrl-C does; each has to end well."""
        for _, process in self._served:
            process.send_signal(signal.SIGINT)
        codes = {}
        for line, process in self._served:
            try:
                codes[line] = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[line] = process.wait()
        assert set(codes.values()) <= {0}, f"{codes}\n{self._log()}"

    def _with_ports(self, command: str) -> str:
        for port, free in self._ports.items():
            command = re.sub(rf"\b{port}\b", str(free), command)
        if "--http" not in command and command.startswith("kitmsg dev"):
            command += f" --http {self._ports[8080]} --nats {self._ports[4222]}"
            self._environ["NATS_URL"] = f"nats://127.0.0.1:{self._ports[4222]}"
        if command == "python -m examples.addsvc":
            ports = {"http": 8081, "grpc": 8082, "thrift": 8083}
            command += "".join(f" --{k} {self._ports[p]}" for k, p in ports.items())
        if "--port" not in command and command.startswith("kitmsg gateway http"):
            command += f" --port {self._ports[8080]}"
        return command

    def _serve(self, words: list[str]) -> None:
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(
                words,
                cwd=self._folder,
                env=self._environ,
                stdout=log,
                stderr=log,
            )
        self._served.append((" ".join(words), process))
        if any(str(port) in words for port in self._ports.values()):
            port = next(p for p in self._ports.values() if str(p) in words)
            url = f"http://127.0.0.1:{port}/readyz"
            self._await(url, process, has_table="dev" in words)

    def _await(
        self, url: str, process: subprocess.Popen[bytes], *, has_table: bool
    ) -> None:
        """Wait until all is ready; nothing tells us but asking, and the table of dev."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(url) as answer:
                is_up = answer.status == 200 and b'"services":0' not in answer.read()
                if is_up and (not has_table or "Ctrl-C ends it" in self._log()):
                    return
            time.sleep(0.02)
        pytest.fail(f"{url} is not ready:\n{self._log()}", pytrace=False)

    def _log(self) -> str:
        log = self._folder / "log"
        return log.read_text() if log.exists() else ""


SESSIONS = [
    pytest.param(page, block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page.read_text(), "sh"))
]


@pytest.fixture
def folder(tmp_path: Path, page: Path) -> Path:
    """A folder with the files that a page shows, and the examples."""
    for name, text in files(page.read_text()).items():
        (tmp_path / name).write_text(text)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


@pytest.mark.timeout(300)  # each command has `SECONDS` of its own
@pytest.mark.parametrize(("page", "block"), SESSIONS)
def test_commands_of_a_page_work_as_written(page, block, folder, nats_server):
    """Somebody who types what a page says sees what it says."""
    session = Session(folder, nats_server.url)
    try:
        for line in block.splitlines():
            session.run(line)
    finally:
        session.stop()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", [SHOP])
@pytest.mark.parametrize("block", blocks(SHOP.read_text(), "sh"), ids=["dev", "run"])
def test_the_shop_works_the_same_on_postgresql(
    page,
    block,
    folder,
    nats_server,
    postgres,  # noqa: F811
):
    """Nothing but the URL of its database differs."""
    url = asyncio.run(empty_database(postgres))
    session = Session(folder, nats_server.url, SHOP_DATABASE=url)
    try:
        for line in block.splitlines():
            session.run(line)
    finally:
        session.stop()
    assert not list(folder.glob("*.db*"))


@pytest.mark.parametrize("page", PAGES[:1], ids=["README.md"])
def test_client_of_the_readme_prints_the_greeting(folder, nats_server):
    """The client snippet runs as it stands, against the service snippet."""
    session = Session(folder, nats_server.url)
    try:
        session.run("kitmsg run greeter:Greeter --health 9090")
        session.run("env python client.py  # prints Hello, Ann!")
    finally:
        session.stop()


@pytest.mark.parametrize(
    ("page", "count"),
    [
        (PAGES[0], 1),
        (ROOT / "docs" / "guide.md", 5),
        (ROOT / "docs" / "events.md", 4),
    ],
)
def test_tests_of_a_page_pass(folder, count):
    """The test snippets need nothing but pytest and kitmsg."""
    names = [path.name for path in folder.glob("test_*.py")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert f"{count} passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_of_every_page_compiles(page):
    """No snippet has a syntax error; one that is no file, and no part of a coroutine, runs."""
    for block in blocks(page.read_text(), "python"):
        code = compile(block, page.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if not re.match(r"# \w+\.py\n|# in a coroutine\n", block):
            exec(code, {"__name__": "snippet"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_every_page_lead_somewhere(page):
    """Files that are linked to exist, and so do headings in the same page."""
    text = page.read_text()
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        assert not path or (page.parent / path).exists(), target
        assert path or anchor in anchors, target


def test_make_does_what_the_readme_says():
    """`make demo` ends in the command that the table shows, `make test` in pytest."""
    facts = {"demo": "kitmsg dev examples/addsvc", "test": "pytest"}
    for target, command in facts.items():
        assert f"`make {target}`" in README
        done = subprocess.run(
            [shutil.which("make") or "make", "-n", target, "PYTHON=python3"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert command in done.stdout
        assert command in README


def test_pip_lines_name_extras_and_groups_that_exist():
    """What `pip install` is told to install is in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = set(re.findall(r"pip install [^`]*\[([\w,]+)\]", README))
    groups = set(re.findall(r"--group (\w+)", README))
    assert {e for group in extras for e in group.split(",")} <= set(
        project["project"]["optional-dependencies"]
    )
    assert groups <= set(project["dependency-groups"])


def test_table_of_settings_is_complete():
    """Every setting is in the table, with its flag, variable and default."""
    row = r"^\| (?:`(--[\w-]+|TARGET \.\.\.)`)? ?\| `(\w+)` \| (?:`([^`]*)`)?"
    rows = re.findall(row, README, re.MULTILINE)
    told = {variable: (flag, default) for flag, variable, default in rows}
    for field in dataclasses.fields(Settings):
        flag, default = told.pop(field.metadata["env"])
        has_flag = field.metadata.get("has_flag", True) and not field.metadata.get(
            "is_secret"
        )
        if has_flag:
            assert flag == f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, float):
            assert float(default) == field.default
        elif field.default and not isinstance(field.default, bool):
            assert default == str(field.default)
        else:
            assert default == ""
    assert told == {}
