"""The page on streams runs as it stands."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitmsg.bus.memory import MemoryBus
from kitmsg.testing import VirtualTimeLoop

if TYPE_CHECKING:
    import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "jetstream.md").read_text()


def test_its_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """In memory, as the page says."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    scope: dict[str, Any] = {}
    exec(code, scope)  # the project's own page

    async def main() -> None:
        bus = MemoryBus()
        await scope["main"](bus)
        await bus.close()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
    assert capsys.readouterr().out == "orders.placed.1 1 1\n"
