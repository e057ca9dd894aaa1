"""The numbers that a gateway gives, while services change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.errors import FailedPrecondition
from kitmsg.idl.numbers import Made, Numbers
from kitmsg.idl.service import Description, shape_service

if TYPE_CHECKING:
    from pathlib import Path

    from kitmsg.idl.lock import Lock
    from kitmsg.idl.model import ServiceShapes


def made(numbers: Numbers, **endpoints: dict[str, str]) -> Made[dict[str, int]]:
    """Give numbers to the parameters of some endpoints."""
    described = [
        Description(
            name,
            {
                "request": {
                    "type": "object",
                    "properties": {key: {"type": type_} for key, type_ in args.items()},
                },
                "response": {"type": "null"},
            },
        )
        for name, args in endpoints.items()
    ]
    return numbers.make(shape_service("vee", described), number)


def number(shapes: ServiceShapes, lock: Lock) -> dict[str, int]:
    found: dict[str, Any] = {}
    for method in shapes.methods:
        fields = {f.name: f.shape.kind for f in shapes.struct(method.request).fields}
        found |= lock.assign(shapes.service, method.request, fields)
    return found


def test_numbers_outlive_what_they_were_made_for() -> None:
    """Whatever order fields come in later, they have the numbers they had."""
    numbers = Numbers()
    assert made(numbers, get={"a": "string", "b": "string"}).result == {"a": 1, "b": 2}
    assert made(numbers, get={"b": "string"}).result == {"b": 2}
    assert made(numbers, get={"c": "string", "a": "string"}).result == {"c": 3, "a": 1}


def test_an_endpoint_that_does_not_fit_leaves_the_others() -> None:
    """It is refused alone, once for each reason, and nothing of it is remembered."""
    numbers = Numbers()
    made(numbers, get={"a": "string"}, put={"x": "string"})
    broken = made(numbers, get={"n": "string", "a": "integer"}, put={"x": "string"})
    assert broken.result == {"x": 1}
    (sentence,) = broken.sentences("vee")
    assert sentence.startswith("vee.get is not served: vee.GetRequest.a was 'str'")
    good = made(numbers, get={"n": "integer", "a": "string"}, put={"x": "string"})
    assert good.result == {"n": 2, "a": 1, "x": 1}
    assert not good.refused


def test_a_service_of_which_nothing_fits_is_not_made() -> None:
    """The sentence is about the service where there is one reason."""
    numbers = Numbers()
    made(numbers, get={"a": "string"})
    broken = made(numbers, get={"a": "integer"})
    assert broken.result is None
    assert broken.sentences("vee")[0].startswith("vee is not served: vee.GetRequest.a")
    assert made(numbers).result is None


def test_the_numbers_of_a_file_come_first(tmp_path: Path) -> None:
    """One that cannot be read is named."""
    file = tmp_path / "the.lock"
    file.write_text('[vee.GetRequest]\na = "7 str"\n')
    assert made(Numbers(str(file)), get={"b": "string", "a": "string"}).result == {
        "b": 1,
        "a": 7,
    }
    file.write_text("[")
    with pytest.raises(
        FailedPrecondition, match=r"the lock .*the\.lock cannot be used"
    ):
        Numbers(str(file))
