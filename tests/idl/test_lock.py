"""The lock keeps numbers, and refuses what would make old clients misread."""

from __future__ import annotations

from random import Random  # noqa: TC003  # hypothesis reads it

import pytest
from hypothesis import given, strategies as st

from kitmsg.idl.lock import BreakingChange, Lock

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
TYPES = st.sampled_from(["int64", "repeated string", "map<string, Order>", ""])


@pytest.fixture
def lock() -> Lock:
    """A lock that knows one message and one enum."""
    lock = Lock("the.lock")
    lock.assign("greeter", "HelloRequest", {"name": "string", "times": "int64"})
    lock.assign("greeter", "Mood", {"good": "", "bad": ""})
    return lock


def fields(lock: Lock, **wanted: str) -> dict[str, int]:
    return lock.assign("greeter", "HelloRequest", wanted)


def test_numbers_follow_the_declaration(lock: Lock) -> None:
    """The first fields are numbered in the order in which they are declared."""
    assert fields(lock, name="string", times="int64") == {"name": 1, "times": 2}


def test_order_does_not_move_a_number(lock: Lock) -> None:
    """A field keeps its number wherever it is declared."""
    assert fields(lock, times="int64", name="string") == {"times": 2, "name": 1}


def test_a_new_field_gets_a_new_number(lock: Lock) -> None:
    """A field declared in front of others gets the next number, not theirs."""
    wanted = {"title": "string", "name": "string", "times": "int64"}
    assert fields(lock, **wanted) == {"title": 3, "name": 1, "times": 2}


def test_a_removed_number_is_not_given_again(lock: Lock) -> None:
    """What is gone keeps its number, so that a new field cannot be taken for it."""
    assert fields(lock, name="string", title="string") == {"name": 1, "title": 3}
    assert lock.removed("greeter", "HelloRequest") == {"times": 2}


def test_a_removed_field_may_come_back(lock: Lock) -> None:
    """With the type it had, it gets the number it had."""
    fields(lock, name="string")
    assert fields(lock, name="string", times="int64")["times"] == 2
    assert lock.removed("greeter", "HelloRequest") == {}


def test_another_type_is_refused(lock: Lock) -> None:
    """A field whose type changes is refused with message, field and what to do."""
    with pytest.raises(BreakingChange) as caught:
        fields(lock, name="int64", times="int64")
    text = str(caught.value)
    assert text.startswith("greeter.HelloRequest.name was 'string' and is now 'int64'")
    assert "another name, or delete its line in the.lock" in text


def test_a_removed_name_with_another_type_is_refused(lock: Lock) -> None:
    """A name that was removed cannot come back as something else."""
    fields(lock, name="string")
    with pytest.raises(BreakingChange, match="times once was 'int64'"):
        fields(lock, name="string", times="string")


def test_another_number_is_refused(lock: Lock) -> None:
    """An enum's value that had a number cannot get another."""
    with pytest.raises(BreakingChange, match="Mood.good was number 1 and is now 5"):
        lock.assign("greeter", "Mood", {"good": ""}, fixed={"good": 5})


def test_a_number_that_was_anothers_is_refused(lock: Lock) -> None:
    """A new name cannot have the number of one that is gone."""
    with pytest.raises(BreakingChange, match="Mood.great is number 2, which was 'bad'"):
        lock.assign("greeter", "Mood", {"good": "", "great": ""}, fixed={"great": 2})


def test_a_refused_change_is_not_remembered(lock: Lock) -> None:
    """After a refusal the lock says what it said."""
    before = lock.dump()
    with pytest.raises(BreakingChange):
        fields(lock, name="string", title="string", times="string")
    assert lock.dump() == before


def test_numbers_can_be_used_up() -> None:
    """Formats have a highest number."""
    with pytest.raises(ValueError, match="numbers up to 2 are used up"):
        Lock().assign("s", "M", dict.fromkeys("abc", "i64"), most=2)


def test_reserved_numbers_are_left_out() -> None:
    """A format's own numbers are skipped."""
    wanted = dict.fromkeys("abc", "i64")
    given = Lock().assign("s", "M", wanted, skip=range(2, 10))
    assert given == {"a": 1, "b": 10, "c": 11}


def test_the_text_is_for_people(lock: Lock) -> None:
    """One line for each name, sorted, with what is gone."""
    fields(lock, name="string")
    assert lock.dump().splitlines()[2:] == [
        "[greeter.HelloRequest]",
        'name = "1 string"',
        'times = "2 int64, removed"',
        "",
        "[greeter.Mood]",
        'good = "1"',
        'bad = "2"',
    ]


@given(
    st.dictionaries(
        st.tuples(NAMES, NAMES), st.dictionaries(NAMES, TYPES, max_size=4), max_size=4
    ),
    st.randoms(use_true_random=False),
)
def test_a_lock_comes_back_equal(
    sections: dict[tuple[str, str], dict[str, str]], random: Random
) -> None:
    """Whatever names there are, what is written is read; order makes no difference."""
    lock, other = Lock(), Lock()
    for (service, section), wanted in sections.items():
        lock.assign(service, section, wanted)
    for (service, section), wanted in random.sample(
        list(sections.items()), len(sections)
    ):
        other.assign(service, section, wanted)
    assert Lock.parse(lock.dump()).dump() == lock.dump() == other.dump()


@given(st.lists(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("xy"))))
def test_no_history_moves_a_number(releases: list[dict[str, str]]) -> None:
    """Whatever comes and goes, a name keeps its number and type, a number its name."""
    text, numbers, types = "", dict[str, int](), dict[str, str]()
    for wanted in releases:
        lock = Lock.parse(text)
        clash = any(types.get(name, type_) != type_ for name, type_ in wanted.items())
        try:
            given_ = lock.assign("s", "M", wanted)
        except BreakingChange:
            assert clash
            assert lock.dump() == (text or Lock().dump())
            continue
        assert not clash
        assert all(numbers.get(name, n) == n for name, n in given_.items())
        numbers |= given_
        types |= wanted
        assert len(set(numbers.values())) == len(numbers)
        assert lock.removed("s", "M").keys() == numbers.keys() - wanted.keys()
        text = lock.dump()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[a", "the.lock cannot be read"),
        ("a = 1", "the.lock: a is not a line such as"),
        ("[a]\nb = 1", "the.lock: a.b is not a line"),
        ("[a.b]\nc = 1", "the.lock: a.b.c is not a line"),
        ('[a.b]\nc = "one int64"', "the.lock: a.b.c is not a line"),
        ('[a.b]\nc = "99999999999 int64"', "the.lock: a.b.c is not a line"),
        ('[a.b]\nc = "1 int64"\nd = "1 int64"', "gives number 1 to 'c' and to 'd'"),
    ],
)
def test_a_broken_lock_says_where(text: str, sentence: str) -> None:
    """A file that was edited or merged badly is refused, not guessed at."""
    with pytest.raises(ValueError, match=sentence):
        Lock.parse(text, "the.lock")


def test_an_empty_file_is_a_new_lock() -> None:
    """Nothing in it: nothing is known."""
    assert Lock.parse("").dump() == Lock().dump()
