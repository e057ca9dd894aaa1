"""Which route a request gets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from kitmsg_gateways.http.errors import Problem
from kitmsg_gateways.http.router import Router, parse_route


def router(*routes: str) -> Router[str]:
    """Return a table in which each route leads to its own text."""
    table: Router[str] = Router()
    for text in routes:
        assert table.add(parse_route(text, text)) is None
    return table


@pytest.mark.parametrize(
    ("method", "path", "route", "values"),
    [
        ("GET", "/orders/7", "GET /orders/{id}", {"id": "7"}),
        ("GET", "/orders/open", "GET /orders/open", {}),
        ("POST", "/orders/get", "POST /orders/get", {}),
        ("GET", "/orders/get", "GET /orders/{id}", {"id": "get"}),
        ("HEAD", "/orders/7", "GET /orders/{id}", {"id": "7"}),
        (
            "GET",
            "/orders/7/lines/2",
            "GET /orders/{id}/lines/{n}",
            {"id": "7", "n": "2"},
        ),
        (
            "GET",
            "/orders/open/lines/2",
            "GET /orders/{id}/lines/{n}",
            {"id": "open", "n": "2"},
        ),
        ("GET", "/orders/a%20b", "GET /orders/{id}", {"id": "a b"}),
        ("GET", "/orders/a%2Fb", "GET /orders/{id}", {"id": "a/b"}),
        ("GET", "/orders/%C3%A9", "GET /orders/{id}", {"id": "é"}),
        ("GET", "/%6Frders/open", "GET /orders/open", {}),
        ("GET", "/", "GET /", {}),
    ],
)
def test_a_request_gets_the_best_route(method, path, route, values):
    """Static wins, a better match without the method gives way, text is decoded."""
    table = router(
        "GET /",
        "GET /orders/{id}",
        "GET /orders/open",
        "POST /orders/get",
        "GET /orders/{id}/lines/{n}",
    )
    match = table.match(method, path)
    assert (match.route.target, match.values) == (route, values)


@pytest.mark.parametrize(
    "path", ["/orders/", "/orders", "/orders/7/", "//7", "orders/7", "*", ""]
)
def test_a_parameter_is_one_segment_that_is_not_empty(path):
    """Near misses are not found."""
    with pytest.raises(Problem) as caught:
        router("GET /orders/{id}").match("GET", path)
    assert caught.value.status == 404


def test_a_method_that_is_not_there_is_405_with_those_that_are():
    """`Allow` joins the methods of every route that fits the path."""
    table = router("GET /orders/{id}", "PUT /orders/{id}", "POST /orders/get")
    with pytest.raises(Problem) as caught:
        table.match("DELETE", "/orders/get")
    assert caught.value.status == 405
    assert caught.value.headers == {"Allow": "GET, HEAD, OPTIONS, POST, PUT"}
    assert table.allowed("/orders/1") == ["GET", "HEAD", "OPTIONS", "PUT"]


def test_not_found_says_what_is_near():
    """A slip in the path names the path that was meant."""
    with pytest.raises(Problem, match="did you mean 'POST /greeter/hello'"):
        router("POST /greeter/hello").match("POST", "/greeter/helo")
    with pytest.raises(Problem, match="no service is on the bus yet"):
        router().match("POST", "/greeter/helo")


def test_broken_percent_encoding_is_refused():
    """A segment that is no UTF-8 is 400, not a guess."""
    with pytest.raises(Problem) as caught:
        router("GET /orders/{id}").match("GET", "/orders/%ff")
    assert caught.value.status == 400


def test_two_routes_for_the_same_requests_conflict():
    """The name of a parameter makes no difference; the first stays."""
    table = router("GET /orders/{id}")
    first = table.routes[0]
    assert table.add(parse_route("GET /orders/{number}", "other")) is first
    assert table.match("GET", "/orders/1").route is first


@pytest.mark.parametrize(
    "text",
    [
        "GET orders",
        "FETCH /orders",
        "GET  /orders",
        "GET /a b",
        "GET /x{id}",
        "GET /{id}/{id}",
        "GET /{1}",
        "GET /{}",
        "GET /a?b=c",
        "GET /a%20b",
        "",
        "get /orders",
    ],
)
def test_what_is_no_route_is_refused(text):
    """The message repeats the text."""
    with pytest.raises(ValueError, match=r"route|plain text|twice"):
        parse_route(text, None)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.text(alphabet="/orders7%2F{}.é", max_size=30))
def test_any_path_finds_a_route_or_a_problem(path):
    """Whatever is sent."""
    table = router("GET /orders/{id}", "GET /{a}/{b}/7", "POST /orders")
    try:
        match = table.match("GET", path)
    except Problem as exc:
        status = exc.status
    else:
        status = 200
        assert all(match.values.values())
    assert status in (200, 400, 404, 405)


def test_a_long_path_costs_no_search():
    """No hint is looked for when the path is longer than any real one."""
    with pytest.raises(Problem) as caught:
        router("GET /orders/{id}").match("GET", "/" + "x" * 5000)
    assert "did you mean" not in str(caught.value)
