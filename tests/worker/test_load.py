"""What somebody types becomes services, or a sentence that says what was found."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from kitmsg.errors import InvalidArgument, KitError, NotFound
from kitmsg.service import Service
from kitmsg.worker.load import BrokenTarget, load
from kitmsg.worker.targets import locate, parse_target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CODE = """
from kitmsg import Service, endpoint

class {one}(Service):
    @endpoint
    async def hello(self) -> str:
        return "hello"

class {two}(Service):
    @endpoint
    async def hello(self) -> str:
        return "hello"

class Other: ...
def make() -> Service: return {one}()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a module of two services; imports are undone."""
    (tmp_path / "shop.py").write_text(CODE.format(one="Till", two="Stock"))
    (tmp_path / "notes.md").write_text("# Notes")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "one.py").write_text(CODE.format(one="A", two="B"))
    (tmp_path / "parts" / "test_one.py").write_text("raise SystemExit('a test ran')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names(*targets: str) -> list[str]:
    """Return the names of the services that targets make."""
    return [factory().name for factory in load(targets)]


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("shop:Till", ["till"]),
        ("shop:make", ["till"]),
        ("shop", ["till", "stock"]),
        ("shop.py", ["till", "stock"]),
        ("shop.py:Stock", ["stock"]),
        ("parts", ["a", "b"]),
        ("parts/one.py", ["a", "b"]),
        ("parts.one:A", ["a"]),
    ],
)
def test_finds_services(folder: Path, target: str, found: list[str]) -> None:
    """Modules, files, folders, classes and functions are targets; tests are skipped."""
    assert names(target) == found


def test_serves_each_service_once(folder: Path) -> None:
    """Targets that overlap do not serve a class twice."""
    assert names("shop:Till", "shop") == ["till", "stock"]


@pytest.mark.parametrize(
    ("target", "kind", "sentence"),
    [
        ("shap:Till", NotFound, "no module 'shap' .* did you mean 'shop'"),
        ("shop.Till", NotFound, "no module .shop.Till. .* did you mean .shop:Till."),
        ("shap.py", NotFound, "no file 'shap.py'; did you mean 'shop.py'"),
        ("parts/two.py", NotFound, "no file 'parts/two.py'; did you mean"),
        ("nowhere/x.py", NotFound, "no folder 'nowhere'"),
        ("shop:Tilt", InvalidArgument, "'Tilt' is not there; did you mean 'Till'"),
        ("shop:Other", InvalidArgument, "'Other' is not a service; it has Till, Stock"),
        ("shop:", None, ""),
        ("a b", InvalidArgument, "'a b' is not a target; write module:Class"),
        ("notes.md", InvalidArgument, "'notes.md' is not a Python file"),
    ],
)
def test_says_what_was_found_instead(
    folder: Path, target: str, kind: type[KitError] | None, sentence: str
) -> None:
    """A wrong target names the nearest right one."""
    if kind is None:
        assert names(target)
        return
    with pytest.raises(kind, match=sentence):
        load([target])


def test_a_module_without_services_says_so(folder: Path) -> None:
    """A module with classes but no service names the classes."""
    (folder / "plain.py").write_text("class Thing: ...")
    with pytest.raises(InvalidArgument, match=r"defines no service; .* classes Thing"):
        load(["plain"])


_ABSTRACT = """
from abc import ABC, abstractmethod
from typing import Generic, TypeVar
from kitmsg import Service, endpoint
T = TypeVar("T")
class Repo(Service, ABC):
    @endpoint
    @abstractmethod
    async def get(self) -> str: ...
class Any(Service, Generic[T]):
    @endpoint
    async def any(self, x: T) -> T: ...
"""


def test_abstract_and_generic_classes_are_no_services(folder: Path) -> None:
    """They are passed over in a file, and refused by name; what is made of them serves."""
    (folder / "bases.py").write_text(_ABSTRACT)
    with pytest.raises(InvalidArgument, match="Repo is abstract: 'get' is missing"):
        load(["bases"])
    with pytest.raises(InvalidArgument, match="Any is generic in T; serve a subclass"):
        load(["bases:Any"])
    mine = "class Mine(Repo):\n    async def get(self) -> str: return ''"
    (folder / "mine.py").write_text(f"{_ABSTRACT}\n{mine}")
    assert names("mine.py") == ["mine"]


@pytest.mark.parametrize(
    "work",
    [
        "@subscribe(Made)\n    async def f(self, e: Made): ...",
        "@every(1)\n    async def f(self): ...",
    ],
    ids=["subscribe", "every"],
)
def test_a_class_with_no_endpoint_and_other_work_is_a_service(
    folder: Path, work: str
) -> None:
    """One that only hears events or runs at times is served as well."""
    code = (
        "from kitmsg import Event, Service, every, subscribe\n"
        "class Made(Event, subject='made.{id}'):\n    id: str\n"
        f"class Works(Service):\n    {work}\n"
    )
    name = f"works_{'sub' if 'Made' in work else 'every'}"
    (folder / f"{name}.py").write_text(code)
    assert names(f"{name}.py") == ["works"]


def test_a_class_without_endpoints_says_what_is_missing(folder: Path) -> None:
    """The decorator, which is easily forgotten."""
    code = "import kitmsg\nclass Bare(kitmsg.Service):\n    async def f(self): ..."
    (folder / "bare.py").write_text(code)
    with pytest.raises(InvalidArgument, match="Bare has no endpoint: write @endpoint"):
        load(["bare.py"])


def test_two_services_of_one_name_are_refused(folder: Path) -> None:
    """Each would be given the calls of the other."""
    code = (
        "import kitmsg\nclass {}(kitmsg.Service):\n    name = 'till'\n"
        "    @kitmsg.endpoint\n    async def f(self) -> None: ..."
    )
    (folder / "first.py").write_text(code.format("First"))
    (folder / "second.py").write_text(code.format("Second"))
    with pytest.raises(
        InvalidArgument, match=r"first.First and second.Second both have .*'till'"
    ):
        load(["first.py", "second.py"])


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("x = (", "broken.py:1: SyntaxError"),
        ("\n1 / 0", "broken.py:2: ZeroDivisionError: division by zero"),
        ("import no_such_thing", "broken.py:1: ModuleNotFoundError"),
        ("raise SystemExit(3)", "broken.py:1: SystemExit: 3"),
    ],
)
def test_broken_code_is_located(folder: Path, code: str, sentence: str) -> None:
    """Code that fails on import is named by file and line, its traceback kept."""
    (folder / "broken.py").write_text(code)
    with pytest.raises(BrokenTarget, match=sentence) as caught:
        load(["broken.py"])
    assert "Traceback" in caught.value.stack or "SyntaxError" in caught.value.stack


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "@subscribe(Placed)\n    async def on(self, event: int) -> None: ...",
            r"broken.py:5: Bad.on subscribes to Placed, and its parameter is .*int",
        ),
        ("@endpoint\n    async def on(self, a: object) -> None: ...", "no wire form"),
        ('@cron("0 3 * *")\n    async def on(self) -> None: ...', "broken.py:6: @cron"),
    ],
    ids=["subscription", "endpoint", "schedule"],
)
def test_a_declaration_that_is_refused_is_a_sentence(
    folder: Path, code: str, sentence: str
) -> None:
    """It says where and what to do, so there is no traceback beside it."""
    (folder / "broken.py").write_text(
        "from kitmsg import Event, Service, cron, endpoint, subscribe\n\n"
        'class Placed(Event, subject="placed.{id}"):\n    id: str\n'
        f"class Bad(Service):\n    {code}\n"
    )
    with pytest.raises(BrokenTarget, match=sentence) as caught:
        load(["broken.py"])
    assert caught.value.stack == ""
    assert "Error:" not in str(caught.value)


def test_a_file_does_not_hide_behind_a_module_of_its_name(folder: Path) -> None:
    """A file named as a module that is loaded already is refused, not confused."""
    (folder / "json.py").write_text(CODE.format(one="A", two="B"))
    with pytest.raises(InvalidArgument, match="another module is named 'json'"):
        load(["json.py"])


def test_locates_without_running(folder: Path) -> None:
    """Where a target is can be told without importing it."""
    (folder / "loud.py").write_text("raise SystemExit('it ran')")
    assert locate(parse_target("loud:Thing")) == (folder / "loud.py").resolve()
    assert locate(parse_target("parts")) == (folder / "parts").resolve()
    assert locate(parse_target("absent:Thing")) is None


def test_a_ready_instance_is_served(folder: Path) -> None:
    """A service object in a module is served as it is."""
    (folder / "ready.py").write_text("from shop import Till\ntill = Till()\n")
    (factory,) = load(["ready:till"])
    assert isinstance(factory(), Service)
    assert factory() is factory()
