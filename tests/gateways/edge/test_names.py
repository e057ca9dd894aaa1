"""One flat list of names."""

from __future__ import annotations

from kitmsg.discovery.catalog import CatalogEndpoint
from kitmsg_gateways.edge.names import flat_names


def endpoint(service: str, name: str) -> CatalogEndpoint:
    """Return an endpoint."""
    return CatalogEndpoint(
        service=service,
        version="1.0.0",
        name=name,
        subject=f"{service}.{name}",
        description="",
        metadata={},
        hash="",
        schema=None,
    )


def test_names_are_sorted_and_plain():
    """Each character that names refuse becomes its number."""
    given = [endpoint("b", "x"), endpoint("a", "y/ü")]
    names, refused = flat_names(given, ".", (), ())
    assert list(names) == ["a.y_x2f__xfc_", "b.x"]
    assert refused == []


def test_a_name_stays_whose_it_was():
    """Whatever the order of those who want it."""
    first, second = endpoint("a", "b_c"), endpoint("a_b", "c")
    for had, winner, loser in (
        (set(), first, "a_b.c"),
        ({first.subject}, first, "a_b.c"),
        ({second.subject}, second, "a.b_c"),
    ):
        names, refused = flat_names([first, second], "_", (), had)
        assert names == {"a_b_c": winner}
        other = f"{winner.service}.{winner.name}"
        assert refused == [
            f"{loser} is not served: the name 'a_b_c' belongs to {other}"
        ]


def test_patterns_choose_by_the_dotted_name():
    """Whatever the separator is."""
    given = [endpoint("a", "x"), endpoint("a", "y"), endpoint("b", "x")]
    names, _ = flat_names(given, "_", ("a.*", "b.x"), ())
    assert list(names) == ["a_x", "a_y", "b_x"]
    names, _ = flat_names(given, "_", ("a.y",), ())
    assert list(names) == ["a_y"]
