"""The README's chart and the paragraph beside it come from the same figures."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks import readme

ROOT = Path(__file__).parents[2]
KEPT = msgspec.json.decode(readme.FIGURES.read_bytes())


def test_chart_and_text_are_those_of_the_kept_figures() -> None:
    """Neither was edited by hand, nor came from another run."""
    assert (ROOT / "docs" / "rpc.svg").read_text() == readme.chart_of(
        "rpc", KEPT["rows"]
    )
    text = readme.text_of(KEPT["rows"], rounds=KEPT["rounds"])
    assert text in (ROOT / "README.md").read_text()


def test_one_call_writes_figures_chart_and_text(tmp_path: Path) -> None:
    """The text between the marks is replaced, and the rest of the page stays."""
    (tmp_path / "docs").mkdir()
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- figures -->\nold\n<!-- /figures -->\nafter\n")
    rows = [{**row, "rate": row["rate"] * 2} for row in KEPT["rows"]]
    readme.write(rows, rounds=7, root=tmp_path)
    text = readme.text_of(rows, rounds=7)
    assert page.read_text() == (
        f"before\n<!-- figures -->\n{text}<!-- /figures -->\nafter\n"
    )
    assert (tmp_path / "docs" / "rpc.svg").read_text() == readme.chart_of("rpc", rows)
    kept = msgspec.json.decode((tmp_path / "docs" / "rpc.json").read_bytes())
    assert kept == {"rounds": 7, "rows": rows}


def test_a_run_without_a_peer_of_the_text_writes_nothing(tmp_path: Path) -> None:
    """A chart without Go kit would not fit the paragraph."""
    rows = [row for row in KEPT["rows"] if row["peer"] != "gokit"]
    with pytest.raises(ValueError, match="the README needs gokit, 64 in flight"):
        readme.write(rows, rounds=5, root=tmp_path)
    assert not list(tmp_path.iterdir())
