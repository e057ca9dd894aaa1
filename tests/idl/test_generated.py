"""Services are generated anew when they change, and only then; what is refused waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kitmsg.idl.generated import Generator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kitmsg.idl.lock import Lock
    from kitmsg.idl.model import ServiceShapes


@dataclass(frozen=True)
class Endpoint:
    service: str
    name: str
    type: str = "string"
    description: str = ""
    stream: str = ""

    @property
    def schema(self) -> dict[str, Any]:
        properties = {"x": {"type": self.type}}
        request = {"type": "object", "title": "R", "properties": properties}
        return {"request": request, "response": {"type": "null"}}


def make(
    shapes: ServiceShapes, endpoints: Mapping[str, Endpoint], lock: Lock
) -> list[str]:
    """Number the fields of each request; returns the endpoints."""
    for method in shapes.methods:
        fields = shapes.struct(method.request).fields
        types = {field.name: field.shape.kind for field in fields}
        lock.assign(shapes.service, method.endpoint, types)
    return [endpoints[method.endpoint].name for method in shapes.methods]


def test_a_service_that_stays_is_not_made_again() -> None:
    """The same object comes back; another service's change does not matter."""
    generator = Generator("", make, lambda _: ())
    add, buy = Endpoint("math", "add"), Endpoint("shop", "buy")
    math, shop = generator.services([add, buy], {})
    assert (math.result, shop.result) == (["add"], ["buy"])
    again, changed = generator.services([add, Endpoint("shop", "sell")], {})
    assert again is math
    assert changed.result == ["sell"]
    (documented,) = generator.services([add], {"math": "Adds."})
    assert documented.shapes.doc == "Adds."


def test_an_endpoint_that_clients_would_misread_waits_alone() -> None:
    """The others of its service stay; it is told why."""
    generator = Generator("", make, lambda _: ["sub is a stream"])
    generator.services([Endpoint("math", "add"), Endpoint("math", "neg")], {})
    changed = Endpoint("math", "add", "integer")
    (math,) = generator.services([changed, Endpoint("math", "neg")], {})
    assert math.result == ["neg"]
    assert [method.endpoint for method in math.waiting] == ["add"]
    assert math.refused[0] == "sub is a stream"
    assert (
        "math.add is not served: math.add.x was 'str' and is now 'int'"
        in math.refused[1]
    )
    assert "'math'" in math.why
