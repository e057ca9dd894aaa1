"""``kitmsg call --trace`` against a worker that tells spans, and one that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.worker.commands import Command

if TYPE_CHECKING:
    from pathlib import Path

    from kitmsg.bus.embedded import EmbeddedServer

CODE = """
from kitmsg import Service, endpoint

class Traced(Service):
    @endpoint
    async def go(self, item: str) -> str:
        return item
"""


@pytest.mark.parametrize("is_told", [True, False])
def test_the_tree_is_printed_beside_the_answer(
    nats_server: EmbeddedServer, tmp_path: Path, is_told: bool
) -> None:
    """On standard error, so that programs read the answer alone; else what to do."""
    (tmp_path / "traced.py").write_text(CODE)
    words = ["-m", "kitmsg.cli", "run", "traced.py"]
    words += ["--trace-replies"] if is_told else []
    with Command(words, tmp_path, nats_url=nats_server.url) as worker:
        worker.says("is serving as")
        call = ["-m", "kitmsg.cli", "call", "traced.go", "item=hat", "--trace"]
        with Command(call, tmp_path, nats_url=nats_server.url) as caller:
            assert caller.ends() == 0, caller.output
            lines = caller.output.splitlines()
    assert "hat" in lines
    assert any("client traced.go (kitmsg call)" in line for line in lines)
    assert any("└─ server traced.go (traced)" in line for line in lines) == is_told
    assert any("mailbox.wait" in line for line in lines) == is_told
    assert any("--trace-replies" in line for line in lines) != is_told
