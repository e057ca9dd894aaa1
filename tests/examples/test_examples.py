"""Every example runs as it stands and prints what its docstring promises."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

import pytest

import kitmsg
from examples.addsvc import client
from examples.addsvc.service import (
    AddService,
    IntOverflow,
    MaxSizeExceeded,
    TwoEmptyStrings,
    TwoZeroes,
)
from examples.greeter import Greeter
from kitmsg.worker.load import load

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(150)  # programs start slowly on a busy machine

SCRIPTS = (
    "examples/stringsvc/stringsvc1.py",
    "examples/stringsvc/stringsvc2.py",
    "examples/stringsvc/stringsvc3.py",
    "examples/addsvc/explicit.py",
    "examples/orders.py",
    "examples/ticker.py",
)


def promised(path: Path) -> str:
    """Return the indented block at the end of a script's docstring."""
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    _, _, block = doc.rpartition("prints\n\n")
    return textwrap.dedent(block).strip() + "\n"


def run(*command: str, **environ: str) -> str:
    """Return what a Python command prints; it has to succeed."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_example_prints_what_its_docstring_promises(script):
    """What a reader is told to see is what comes out."""
    want, got = promised(ROOT / script), run(script)
    assert OutputChecker().check_output(want, got, ELLIPSIS), got


async def test_client_of_addsvc_prints_what_its_docstring_promises(kit, capsys):
    """It is the same over a bus and with the service itself in its place."""
    await kit.serve(AddService)
    await client.show(kit.client(AddService))
    over_the_bus = capsys.readouterr().out
    await client.show(AddService())
    assert over_the_bus == promised(Path(client.__file__))
    assert capsys.readouterr().out == over_the_bus


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [
        (0, 0, TwoZeroes),
        (2**31 - 1, 1, IntOverflow),
        (-(2**31), -1, IntOverflow),
        (2**62, 2**62, IntOverflow),
    ],
)
async def test_addsvc_refuses_a_sum(kit, a, b, error):
    """Go kit's rules: no two zeroes, nothing beyond 32 bits, either way."""
    await kit.serve(AddService)
    with pytest.raises(error):
        await kit.client(AddService).sum(a, b)


async def test_addsvc_sums_up_to_its_bounds(kit):
    """The bounds themselves are allowed, and so is one zero."""
    await kit.serve(AddService)
    addsvc = kit.client(AddService)
    assert await addsvc.sum(2**31 - 1, 0) == 2**31 - 1
    assert await addsvc.sum(-(2**31), 0) == -(2**31)
    assert await addsvc.sum(1, -1) == 0


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [
        ("", "", TwoEmptyStrings),
        ("12345", "678901", MaxSizeExceeded),
        ("\N{EURO SIGN}" * 4, "", MaxSizeExceeded),
    ],
)
async def test_addsvc_refuses_a_concatenation(kit, a, b, error):
    """No two empty strings, no more than 10 bytes, which are not characters."""
    await kit.serve(AddService)
    with pytest.raises(error):
        await kit.client(AddService).concat(a, b)


async def test_addsvc_concatenates_up_to_ten_bytes(kit):
    """Ten bytes are allowed, and so is one empty string."""
    await kit.serve(AddService)
    addsvc = kit.client(AddService)
    assert await addsvc.concat("12345", "67890") == "1234567890"
    assert await addsvc.concat("", "b") == "b"


async def test_orders_are_served_by_their_classes(kit):
    """`kitmsg dev examples/orders.py` finds both services, and connects them."""
    for factory in load([str(ROOT / "examples" / "orders.py")]):
        await kit.serve(factory)
    lines = [{"sku": "teapot", "count": 2}]
    order = await kit.call("orders.place", customer={"name": "Ann"}, lines=lines)
    assert order == {"id": 1, "items": 2}


def test_service_side_of_addsvc_is_short():
    """What somebody has to write for two methods with rules and routes."""
    text = (ROOT / "examples" / "addsvc" / "service.py").read_text()
    assert sum(1 for line in text.splitlines() if line.strip()) < 150


async def test_greeter_is_a_worker_when_run_as_a_script(nats_server):
    """`python examples/greeter.py` serves on NATS_URL, and drains on SIGTERM."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "examples/greeter.py",
        cwd=ROOT,
        env={**os.environ, "NATS_URL": nats_server.url},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            while b"is serving" not in (line := await process.stderr.readline()):
                assert line, "it ended"
        async with kitmsg.connect(nats_server.url) as kit:
            assert await kit.client(Greeter).hello("Ann") == "Hello, Ann!"
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = await process.communicate()
    assert process.returncode == 0, rest


def test_tests_among_the_examples_pass_without_any_setting():
    """A user's project has no plugin and no configuration but kitmsg's own."""
    folder = str(ROOT / "examples" / "testing")
    out = run("-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", folder)
    assert "10 passed" in out
