"""Problem details, as RFC 9457 has them."""

from __future__ import annotations

import msgspec
import pytest

from kitmsg.errors import Code, InvalidArgument, ResourceExhausted
from kitmsg_gateways.http.errors import Problem, title


def test_what_is_not_known_is_left_out():
    """The smallest document has no field, no wait, no details."""
    body = Problem(400, Code.INVALID_ARGUMENT, "no").body(instance="/x", request_id="1")
    assert msgspec.json.decode(body) == {
        "type": "urn:kitmsg:error:invalid_argument",
        "title": "Bad Request",
        "status": 400,
        "detail": "no",
        "instance": "/x",
        "code": "invalid_argument",
        "request_id": "1",
    }


def test_facts_of_an_error_are_kept():
    """Field and wait come from the error."""
    assert Problem.of(InvalidArgument("no", field="a.b")).field == "a.b"
    problem = Problem.of(ResourceExhausted("full", retry_after=0.02))
    assert problem.retry_after == 0.02
    assert problem.all_headers()["Retry-After"] == "1"


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_a_title(code):
    """Statuses without a registered phrase too."""
    assert title(code.http)
