"""Which members of a class are endpoints: inherited, generic, wrapped, or a mistake."""
# the services here are props

from __future__ import annotations

import asyncio  # noqa: TC003  found in annotations
import functools
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec
import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.errors import InvalidArgument
from kitmsg.service.declare import unservable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

T = TypeVar("T")
K = TypeVar("K", bound=int)


class User(msgspec.Struct):
    """A prop."""

    id: int
    name: str = ""


class Interface(Service, ABC):
    """Endpoints that a subclass carries out."""

    @endpoint(http="GET /things/{key}", idempotent=True, timeout=3.0)
    @abstractmethod
    async def get(self, key: int) -> str:
        """Return it."""

    @endpoint
    @abstractmethod
    def slow(self) -> str: ...

    @endpoint
    @abstractmethod
    def each(self, n: int) -> AsyncIterator[int]: ...


class Things(Interface):
    """Overrides without saying @endpoint again."""

    async def get(self, key: int) -> str:
        return f"thing {key}"

    def slow(self) -> str:  # type: ignore[override]
        return threading.current_thread().name

    async def each(self, n: int) -> AsyncIterator[int]:  # type: ignore[override]
        for i in range(n):
            yield i


async def test_an_override_is_the_endpoint_it_replaces(kit: Kit) -> None:
    """With the options of the base, and the types of the override."""
    declared = Things.__declarations__["get"]
    assert declared.subject == "things.get"
    assert declared.options == Interface.__declarations__["get"].options
    await kit.serve(Things)
    client = kit.client(Things)
    assert await client.get(3) == "thing 3"
    slow: Any = client.slow
    assert await slow() != threading.current_thread().name
    assert [i async for i in client.each(3)] == [0, 1, 2]
    with pytest.raises(InvalidArgument, match="field 'key'"):
        await kit.call("things.get", key="x")


def test_the_types_of_an_override_are_checked() -> None:
    """As those of any endpoint, with the route of the base."""
    with pytest.raises(TypeError, match=r"Untyped.get: parameter 'key' has no type"):

        class Untyped(Things):
            async def get(self, key) -> str:  # type: ignore[no-untyped-def]
                return str(key)

    with pytest.raises(ValueError, match=r"Renamed.get: the route .* \{key\}.* is id"):

        class Renamed(Things):
            async def get(self, id: int) -> str:  # noqa: A002
                return str(id)


async def test_a_mixin_carries_out_an_interface(kit: Kit) -> None:
    """The method is found by Python's rules, the options by the same."""

    class Mixin:
        async def get(self, key: int) -> str:
            return f"mixed {key}"

    class Mixed(Mixin, Things):
        pass

    await kit.serve(Mixed)
    assert await kit.client(Mixed).get(1) == "mixed 1"
    assert not hasattr(Mixin.get, "__kit_endpoint__")


def test_an_endpoint_can_be_taken_away_but_not_hidden() -> None:
    """None does without it; another value is a mistake."""

    class Less(Things):
        slow = None  # type: ignore[assignment]

    assert set(Less.__declarations__) == {"get", "each"}
    with pytest.raises(TypeError, match=r"Odd.slow is an endpoint of a base .* 3"):

        class Odd(Things):
            slow = 3  # type: ignore[assignment]


async def test_an_abstract_class_is_not_served(kit: Kit) -> None:
    """It says what is missing; one without ABC too."""
    with pytest.raises(TypeError, match="Interface is abstract: 'get' is missing"):
        await kit.serve(Interface)

    class Bare(Service):
        @endpoint
        @abstractmethod
        async def get(self) -> str: ...

    with pytest.raises(TypeError, match="Bare is abstract: 'get' is missing"):
        await kit.serve(Bare)


class Repo(Service, Generic[K, T]):
    """Generic in what it keeps."""

    def __init__(self) -> None:
        self.kept: dict[Any, Any] = {}

    @endpoint
    async def put(self, key: K, value: T) -> None:
        self.kept[key] = value

    @endpoint
    async def all(self) -> list[T]:
        return list(self.kept.values())

    @endpoint
    async def get(self, key: K) -> T | None:
        return self.kept.get(key)


class ByNumber(Repo[int, T], Generic[T]):
    """Binds one variable, and leaves one."""

    @endpoint
    async def first(self) -> T:
        found: T = self.kept[min(self.kept)]
        return found


class Audited(Generic[T]):
    """Another generic base, with the same variable for something else."""

    @endpoint
    async def audit(self, value: T) -> T:
        return value


class Users(ByNumber[User], Audited[str]):
    """Binds what is left, through several bases."""


async def test_type_variables_are_bound_by_subclasses(kit: Kit) -> None:
    """Through several bases, each with its own meaning of a variable."""
    await kit.serve(Users)
    client = kit.client(Users)
    await client.put(1, User(1, "Ann"))
    assert await client.all() == [User(1, "Ann")]
    assert await client.get(1) == User(1, "Ann")
    assert await client.first() == User(1, "Ann")
    assert await client.audit("x") == "x"
    with pytest.raises(InvalidArgument, match="field 'value'"):
        await kit.call("users.audit", value=3)
    with pytest.raises(InvalidArgument, match=r"field 'value.id'"):
        await kit.call("users.put", key=1, value={"id": "x"})


async def test_a_generic_class_is_not_served_itself(kit: Kit) -> None:
    """It has no endpoints yet, and says which variable is open."""
    assert Repo.__declarations__ == {}
    assert unservable(ByNumber).startswith("ByNumber is generic in T; serve a subclass")
    with pytest.raises(TypeError, match="Repo is generic in K, T"):
        await kit.serve(Repo)


def test_what_a_generic_class_says_is_checked_where_it_is_defined() -> None:
    """All that does not hang on its variables."""
    with pytest.raises(TypeError, match=r"Bad.get: parameter 'lock'"):

        class Bad(Service, Generic[T]):
            @endpoint
            async def get(self, lock: asyncio.Lock) -> list[T]:
                return []


def test_an_unbound_type_variable_is_refused() -> None:
    """In a base without brackets, and in a class that is not generic."""
    with pytest.raises(TypeError, match=r"Loose.*: parameter 'key' .* what K stands"):

        class Loose(Repo):  # type: ignore[type-arg]
            pass

    with pytest.raises(TypeError, match=r"Free.get: .* nothing says what T stands for"):

        class Free(Service):
            @endpoint
            async def get(self, x: T) -> list[T]:
                return [x]


def logged(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return wrapper


class Greeting:
    """An object that is called."""

    def __init__(self, word: str) -> None:
        self.word = word

    async def __call__(self, name: str) -> str:
        """Greet."""
        return f"{self.word}, {name}!"


class Callables(Service):
    """Endpoints that are no plain methods."""

    @endpoint
    @logged
    async def inside(self, name: str) -> str:
        return f"{name} in {threading.current_thread().name}"

    @logged
    @endpoint
    async def outside(self, name: str) -> str:
        return name

    hello = endpoint(Greeting("Hello"))
    bye = endpoint(functools.partial(Greeting("Bye"), name="you"))

    async def _greet(self, word: str, name: str, mark: str = "!") -> str:
        return f"{word}, {name}{mark}"

    def _shout(self, name: str, *, loud: bool) -> str:
        return name.upper() if loud else threading.current_thread().name

    hi = endpoint(functools.partialmethod(_greet, "Hi"))
    hey = endpoint(functools.partialmethod(_greet, word="Hey"))
    shout = endpoint(functools.partialmethod(_shout, loud=True))

    @endpoint
    @functools.lru_cache  # noqa: B019  a prop
    def cached(self, n: int) -> int:
        return n * 2


@pytest.mark.parametrize(
    ("name", "fields", "answer"),
    [
        ("inside", {"name": "a"}, f"a in {threading.current_thread().name}"),
        ("outside", {"name": "a"}, "a"),
        ("hello", {"name": "Ann"}, "Hello, Ann!"),
        ("bye", {}, "Bye, you!"),
        ("hi", {"name": "Ann"}, "Hi, Ann!"),
        ("hey", {"name": "Ann", "mark": "?"}, "Hey, Ann?"),
        ("shout", {"name": "Ann"}, "ANN"),
        ("cached", {"n": 2}, 4),
    ],
)
async def test_callables_that_are_no_plain_methods(
    kit: Kit, name: str, fields: dict[str, Any], answer: Any
) -> None:
    """They are called as Python would, and awaited where they give a coroutine."""
    await kit.serve(Callables)
    assert await kit.call(f"callables.{name}", fields) == answer
    assert await getattr(kit.client(Callables), name)(**fields) == answer


def test_arguments_that_are_given_are_no_fields() -> None:
    """So no caller can change them."""
    declared = Callables.__declarations__
    assert declared["shout"].signature.parameters == ("name",)
    assert declared["hey"].signature.parameters == ("name", "mark")
    assert declared["hi"].signature.request.__name__ == "CallablesHiRequest"
    assert declared["hello"].signature.doc == "Greet."


async def no_self() -> str:
    return ""


async def forgotten(name: str, n: int) -> str:
    return name * n


forgot: Any = forgotten  # not everybody has a type checker


async def keyword(*, name: str) -> str:
    return name


class Inner:
    """A prop."""


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        (lambda: endpoint(cast("Any", no_self)), r"Wrong.f has no self"),
        (lambda: endpoint(cast("Any", keyword)), r"Wrong.f has no self"),
        (lambda: endpoint(forgot), r"Wrong.f begins with the parameter 'name', where"),
        (lambda: endpoint(staticmethod(forgot)), "forgotten is a static method"),
        (
            lambda: endpoint(cast("Any", classmethod(forgot))),
            "forgotten is a class method",
        ),
        (
            lambda: staticmethod(endpoint(forgot)),
            r"Wrong.f: forgotten is a static method",
        ),
        (
            lambda: classmethod(endpoint(forgot)),
            r"Wrong.f: forgotten is a class method",
        ),
        (lambda: endpoint(cast("Any", Inner)), "goes on a method, not on the class"),
        (lambda: endpoint(cast("Any", 3)), "goes on a method, not on 3"),
    ],
)
def test_what_is_no_method_is_refused(member: Callable[[], Any], sentence: str) -> None:
    """By name, with what to do."""
    with pytest.raises(TypeError, match=sentence):
        type("Wrong", (Service,), {"f": member()})


def test_a_route_belongs_to_one_endpoint() -> None:
    """The names in its braces do not tell two apart."""
    with pytest.raises(ValueError, match=r"Twice: 'a' and 'b' have the same route"):

        class Twice(Service):
            @endpoint(http="GET /a/{x}")
            async def a(self, x: int) -> int:
                return x

            @endpoint(http="GET /a/{y}")
            async def b(self, y: int) -> int:
                return y
