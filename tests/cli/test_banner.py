"""What ``kitmsg dev`` proposes to type can be typed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from kitmsg import Kit
from kitmsg.bus.memory import MemoryBus
from kitmsg.cli.banner import banner
from tests.cli.conftest import Shop

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("is_on_path", [True, False])
async def test_lines_to_try_name_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_on_path: bool
) -> None:
    """Where the shell finds no ``kitmsg``, the lines begin with the path to it."""
    program = tmp_path / ".venv" / "bin" / "kitmsg"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(program.parent) if is_on_path else "")
    monkeypatch.setattr(sys, "argv", [".venv/bin/kitmsg", "dev"])
    kit = Kit(MemoryBus())
    await kit.serve(Shop())
    text = await banner(kit, urls={}, nats="", is_embedded=False, folders=[])
    wanted = "    kitmsg call" if is_on_path else "    .venv/bin/kitmsg call"
    assert f"{wanted} shop.price name=" in text
    await kit.drain(0.0)
    await kit.close()
