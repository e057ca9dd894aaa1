"""One contract for all pickers, then the promises of each."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.balance import (
    Node,
    at_random,
    consistent_hash,
    outlier_ejection,
    p2c,
    round_robin,
    slow_start,
    subset,
    weighted,
    zone_first,
)
from kitmsg.discovery.instance import Instance

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.balance import Picker

PICKERS: dict[str, Callable[[], Picker]] = {
    "round_robin": round_robin,
    "random": lambda: at_random(chance=random.Random(7).random),
    "weighted": weighted,
    "p2c": lambda: p2c(chance=random.Random(7).random),
    "consistent_hash": consistent_hash,
    "subset": lambda: subset(2, round_robin(), client="me"),
    "zone_first": lambda: zone_first("eu", round_robin()),
    "slow_start": lambda: slow_start(10.0, round_robin()),
    "outlier_ejection": lambda: outlier_ejection(round_robin()),
}


@pytest.fixture(params=list(PICKERS))
def picker(request: pytest.FixtureRequest) -> Picker:
    """Every picker, one after the other."""
    return PICKERS[request.param]()


def nodes(count: int, **facts: Any) -> tuple[Node[Any], ...]:
    """Return nodes named a, b, c ..."""
    return tuple(
        Node(Instance(address=chr(ord("a") + number), **facts), None)
        for number in range(count)
    )


def picks(
    picker: Picker, of: tuple[Node[Any], ...], count: int, now: float = 0.0
) -> Counter[str]:
    """Return how often each address is picked, each call being over at once."""
    found: Counter[str] = Counter()
    for number in range(count):
        node = picker.pick(of, now, str(number), ())
        assert node is not None
        found[node.address] += 1
    return found


# -- the contract


def test_of_no_nodes_none_is_picked(picker: Picker) -> None:
    """An empty set has nobody."""
    assert picker.pick((), 0.0, "", ()) is None


def test_the_only_node_is_picked(picker: Picker) -> None:
    """A set of one needs no choice."""
    (only,) = nodes(1)
    assert picker.pick((only,), 0.0, "key", ()) is only


def test_each_attempt_gets_another_node_until_all_are_tried(picker: Picker) -> None:
    """Nodes in `tried` are passed over; when all are, there is none."""
    several = nodes(5)
    tried: list[Node[Any]] = []
    for _ in several:
        node = picker.pick(several, 0.0, "key", tried)
        assert node is not None
        assert node not in tried
        tried.append(node)
    assert picker.pick(several, 0.0, "key", tried) is None


def test_who_left_the_set_is_picked_no_more(picker: Picker) -> None:
    """The set of the moment counts, nothing of before."""
    several = nodes(4)
    picks(picker, several, 20)
    assert set(picks(picker, several[:1], 20)) == {"a"}


def test_outcomes_are_taken_for_nodes_that_left_too(picker: Picker) -> None:
    """A call may end after its instance has gone."""
    several = nodes(3)
    picker.pick(several, 0.0, "", ())
    picker.done(nodes(1)[0], 0.0, True)
    picker.done(several[0], 0.0, False)


# -- round robin, random, weighted


def test_round_robin_gives_each_node_the_same() -> None:
    """The nodes take turns."""
    assert picks(round_robin(), nodes(3), 30) == {"a": 10, "b": 10, "c": 10}


def test_second_attempts_do_not_upset_the_round() -> None:
    """The load of a node that refuses is shared by the others, not given to one."""
    picker, found = round_robin(), nodes(3)
    got: Counter[str] = Counter()
    for now in range(30):
        first = picker.pick(found, float(now), "", ())
        if first is found[1]:
            first = picker.pick(found, float(now), "", (first,))
        assert first is not None
        got[first.address] += 1
    assert abs(got["a"] - got["c"]) <= 1


def test_random_gives_each_node_about_the_same() -> None:
    """No node is left out."""
    found = picks(PICKERS["random"](), nodes(4), 4_000)
    assert all(900 < count < 1_100 for count in found.values())


def test_weights_are_shares_without_bursts() -> None:
    """Weights 5, 1, 1 are a a b a c a a: nginx's order, no seven of a kind."""
    heavy = Node[Any](Instance(address="a", weight=5.0), None)
    rest = nodes(3)[1:]
    picker = weighted()
    order = [picker.pick((heavy, *rest), 0.0, "", ()) for _ in range(7)]
    assert "".join(node.address for node in order if node) == "aabacaa"


def test_a_weight_of_zero_still_gets_some() -> None:
    """RFC 2782: the least chance, but one."""
    least = Node[Any](Instance(address="z", weight=0.0), None)
    assert picks(weighted(), (*nodes(1), least), 300)["z"] > 0


# -- p2c


def answered(node: Node[Any], seconds: float, now: float = 0.0) -> None:
    """Let a node answer one call."""
    node.begin(now)
    node.end(now, now + seconds, failed=False)


def test_p2c_prefers_the_faster_node() -> None:
    """Of two, the one with the lower latency."""
    slow, fast = nodes(2)
    answered(slow, 0.1)
    answered(fast, 0.01)
    assert picks(p2c(), (slow, fast), 50, now=1.0) == {"b": 50}


def test_p2c_prefers_the_node_with_fewer_calls_open() -> None:
    """At equal latency the load decides."""
    busy, free = nodes(2)
    for node in (busy, free):
        answered(node, 0.01)
    busy.begin(1.0)
    assert picks(p2c(), (busy, free), 50, now=1.0) == {"b": 50}


def test_p2c_leaves_a_node_that_hangs_before_it_answers() -> None:
    """A call that is open for long tells as much as a slow answer."""
    hung, slow = nodes(2)
    answered(hung, 0.001)
    answered(slow, 0.1)
    hung.begin(0.1)
    assert picks(p2c(), (hung, slow), 50, now=2.0) == {"b": 50}


def test_p2c_asks_an_idle_node_again() -> None:
    """Three seconds without a call, and what is known of it is old."""
    slow, fast = nodes(2)
    answered(slow, 1.0)
    answered(fast, 0.01)
    fast.begin(3.5)
    assert picks(p2c(), (slow, fast), 1, now=3.5) == {"a": 1}


def test_p2c_leaves_a_node_that_fails_fast() -> None:
    """Errors that come quickly are no merit."""
    bad, good = nodes(2)
    answered(good, 0.01)
    answered(bad, 0.005)
    for _ in range(20):
        bad.begin(0.0)
        bad.end(0.0, 0.0001, failed=True)
    assert picks(p2c(), (bad, good), 50, now=0.1) == {"b": 50}


def test_p2c_gives_a_heavier_node_more() -> None:
    """Cost is shared by weight."""
    light, heavy = nodes(1)[0], Node[Any](Instance(address="h", weight=4.0), None)
    answered(light, 0.01)
    answered(heavy, 0.02)
    assert picks(p2c(), (light, heavy), 50) == {"h": 50}


def test_p2c_of_a_hundred_equal_nodes_leaves_none_out() -> None:
    """Two at random are any two."""
    many = tuple(Node[Any](Instance(address=str(n)), None) for n in range(100))
    assert len(picks(PICKERS["p2c"](), many, 5_000)) == 100


# -- consistent hash


def test_the_same_key_gets_the_same_node() -> None:
    """In every process: the order of the set does not count."""
    several = nodes(5)
    one, other = consistent_hash(), consistent_hash()
    for key in map(str, range(200)):
        found = one.pick(several, 0.0, key, ())
        assert other.pick(several[::-1], 0.0, key, ()) is found


def test_a_node_that_leaves_moves_only_its_own_keys() -> None:
    """All other keys stay where they are."""
    several = nodes(5)
    picker = consistent_hash()
    for key in map(str, range(500)):
        before = picker.pick(several, 0.0, key, ())
        after = picker.pick(several[:-1], 0.0, key, ())
        assert after is before or before is several[-1]


def test_a_full_node_passes_a_key_on() -> None:
    """Nobody has more than 1.25 times the mean of open calls."""
    several = nodes(4)
    picker = consistent_hash(bound=1.25)
    for _ in range(40):
        node = picker.pick(several, 0.0, "hot", ())
        assert node is not None
        node.begin(0.0)
    assert max(node.in_flight for node in several) <= 13  # ceil(1.25 * 40 / 4)


def test_keys_spread_over_the_nodes() -> None:
    """Each has its share of the keys, within reason."""
    found = picks(consistent_hash(), nodes(4), 4_000)
    assert all(600 < found[address] < 1_400 for address in "abcd")


def test_without_a_bound_a_key_stays() -> None:
    """An infinite bound is plain consistent hashing."""
    several = nodes(3)
    picker = consistent_hash(bound=float("inf"))
    first = picker.pick(several, 0.0, "k", ())
    assert first is not None
    for _ in range(100):
        first.begin(0.0)
    assert picker.pick(several, 0.0, "k", ()) is first


@pytest.mark.parametrize("bound", [1.0, 0.5, -1.0, float("nan")])
def test_a_bound_leaves_room(bound: float) -> None:
    """With exactly the mean, a call could find everybody full."""
    with pytest.raises(ValueError, match="bound must be more than 1"):
        consistent_hash(bound=bound)


# -- subset


def test_a_client_uses_the_same_few_nodes() -> None:
    """Whatever it was started after."""
    many = tuple(Node[Any](Instance(address=str(n)), None) for n in range(50))
    mine = set(picks(subset(4, round_robin(), client="me"), many, 200))
    again = set(picks(subset(4, round_robin(), client="me"), many, 200))
    assert mine == again
    assert len(mine) == 4


def test_a_node_that_joins_changes_at_most_one_place_of_a_subset() -> None:
    """The connections stay."""
    many = tuple(Node[Any](Instance(address=str(n)), None) for n in range(50))
    picker = subset(4, round_robin(), client="me")
    for count in range(5, 50):
        before = set(picks(picker, many[:count], 40))
        after = set(picks(picker, many[: count + 1], 40))
        assert len(before - after) <= 1


def test_clients_use_different_nodes() -> None:
    """Together they use all."""
    many = tuple(Node[Any](Instance(address=str(n)), None) for n in range(10))
    used: Counter[str] = Counter()
    for client in range(100):
        used.update(set(picks(subset(3, round_robin(), client=str(client)), many, 9)))
    assert len(used) == 10
    assert min(used.values()) > 10


# -- zone first


def test_our_own_zone_comes_first() -> None:
    """Others get nothing while it has room."""
    here, there = nodes(2, zone="eu"), (Node[Any](Instance(address="z"), None),)
    assert set(picks(zone_first("eu", round_robin()), here + there, 50)) == {"a", "b"}


def test_a_full_zone_overflows() -> None:
    """From `overflow` open calls on, a less busy node elsewhere gets the call."""
    (near,), far = nodes(1, zone="eu"), Node[Any](Instance(address="z"), None)
    picker = zone_first("eu", round_robin(), overflow=2)
    near.begin(0.0)
    assert picks(picker, (near, far), 3) == {"a": 3}
    near.begin(0.0)
    assert picks(picker, (near, far), 3) == {"z": 3}


def test_a_zone_without_nodes_is_passed_over() -> None:
    """The others take all."""
    assert set(picks(zone_first("us", round_robin()), nodes(3, zone="eu"), 30)) == {
        *"abc"
    }


# -- slow start


def test_a_new_node_gets_its_share_little_by_little() -> None:
    """A tenth at first, half at half the time, all of it at the end."""
    old = nodes(1)[0]
    new = Node[Any](Instance(address="n"), None, since=100.0)
    picker = slow_start(10.0, round_robin(), chance=random.Random(7).random)
    share = {
        age: picks(picker, (old, new), 1_000, now=100.0 + age)["n"]
        for age in (0.0, 5.0, 10.0)
    }
    assert 60 < share[0.0] < 120  # one to ten
    assert 290 < share[5.0] < 370  # one to two
    assert share[10.0] == 500


def test_those_of_the_first_set_are_not_spared() -> None:
    """Nobody is there to stand in for them."""
    found = picks(slow_start(10.0, round_robin()), nodes(2), 100, now=0.0)
    assert found == {"a": 50, "b": 50}


# -- outlier ejection


def fails(picker: Picker, node: Node[Any], times: int, now: float = 0.0) -> None:
    """Let calls of a node fail."""
    for _ in range(times):
        picker.done(node, now, True)


def test_failures_in_a_row_eject_a_node_for_a_while() -> None:
    """Five, then nothing for 30 s, then its share again."""
    several = nodes(3)
    picker = outlier_ejection(round_robin())
    picks(picker, several, 1)
    fails(picker, several[0], 4)
    assert "a" in picks(picker, several, 9)
    fails(picker, several[0], 1)
    assert set(picks(picker, several, 30, now=29.0)) == {"b", "c"}
    assert set(picks(picker, several, 30, now=30.0)) == {"a", "b", "c"}


def test_a_success_begins_the_row_anew() -> None:
    """Only failures in a row count."""
    several = nodes(3)
    picker = outlier_ejection(round_robin())
    picks(picker, several, 1)
    for _ in range(5):
        fails(picker, several[0], 4)
        picker.done(several[0], 0.0, False)
    assert set(picks(picker, several, 9)) == {"a", "b", "c"}


def test_who_fails_again_is_out_for_longer() -> None:
    """Twice the time, the second time."""
    several = nodes(3)
    picker = outlier_ejection(round_robin(), seconds=10.0)
    picks(picker, several, 1)
    fails(picker, several[0], 5)
    assert "a" in picks(picker, several, 9, now=10.0)
    fails(picker, several[0], 5, now=10.0)
    assert "a" not in picks(picker, several, 9, now=29.0)
    assert "a" in picks(picker, several, 9, now=30.0)


def test_at_most_half_of_the_nodes_are_out() -> None:
    """When most fail, it is not them."""
    several = nodes(5)
    picker = outlier_ejection(round_robin())
    picks(picker, several, 1)
    for node in several:
        fails(picker, node, 5)
    assert len(picks(picker, several, 50)) == 3


def test_a_success_rate_far_below_the_others_ejects_a_node() -> None:
    """Half of its calls fail, never two in a row, where the others answer."""
    several = nodes(6)
    picker = outlier_ejection(round_robin(), least_calls=20)
    picks(picker, several, 1)
    for number in range(30):
        for node in several:
            picker.done(node, 1.0, node is several[0] and number % 2 == 0)
    picker.done(several[1], 11.5, False)
    assert set(picks(picker, several, 50, now=12.0)) == set("bcdef")


def test_who_is_out_still_gets_the_attempt_that_nobody_else_can_take() -> None:
    """An ejected node is better than none."""
    several = nodes(2)
    picker = outlier_ejection(round_robin())
    picks(picker, several, 1)
    fails(picker, several[0], 5)
    assert picker.pick(several, 1.0, "", [several[1]]) is several[0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: subset(0, p2c()), "size must be at least 1"),
        (lambda: zone_first("eu", p2c(), overflow=0), "overflow must be at least 1"),
        (lambda: zone_first("", p2c()), "zone is empty"),
        (lambda: slow_start(0, p2c()), "seconds must be positive"),
        (lambda: outlier_ejection(p2c(), consecutive=0), "must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], Any], words: str) -> None:
    """At once, with the option's name."""
    with pytest.raises(ValueError, match=words):
        make()
