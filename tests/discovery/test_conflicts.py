"""Two classes under one name and version, and what is none."""

from __future__ import annotations

import pytest

from kitmsg.cli.ls import warn_of_conflicts
from kitmsg.discovery.conflicts import conflicts
from kitmsg.discovery.subject import EndpointInfo, ServiceInfo


def one(id_: str, hash_: str, version: str = "1.0.0") -> ServiceInfo:
    """Return an instance of ``shop`` whose one endpoint has that schema."""
    metadata = {"kit.schema": hash_} if hash_ else {}
    buy = EndpointInfo(name="buy", subject="shop.buy", metadata=metadata)
    return ServiceInfo(name="shop", id=id_, version=version, endpoints=[buy])


def test_ls_and_info_warn_and_name_both(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, so that JSON stays JSON."""
    warn_of_conflicts([one("a1", "x"), one("a2", "x"), one("b1", "y")])
    out, err = capsys.readouterr()
    assert out == ""
    assert "2 classes say different things as 'shop' 1.0.0" in err
    assert "a1, a2 has buy; b1 has buy" in err


@pytest.mark.parametrize(
    "others",
    [
        [one("a2", "x")],
        [one("b1", "y", "1.1.0")],
        [one("f1", "")],
    ],
)
def test_no_conflict(others: list[ServiceInfo]) -> None:
    """The same schema, another version, or a service that does not tell its schema."""
    assert conflicts([one("a1", "x"), *others]) == {}
