"""Names of an IDL find those of a live schema, and what does not fit is a sentence."""

from __future__ import annotations

import pytest

from kitmsg.idl.binding import (
    Names,
    are_numbers,
    bind_fields,
    bind_options,
    bind_values,
    find_service,
    read_map,
)
from kitmsg.idl.model import Enum, Field, Option, Shape, Struct, Union

TEXT = Shape("str")
ORDER = Struct("Order", (Field("order_id", TEXT), Field("note", TEXT, False)))
COLOUR = Enum("Colour", ("red", "deep-blue"))


@pytest.mark.parametrize(
    ("name", "alias", "found"),
    [
        ("get_user", None, "get_user"),
        ("GetUser", None, "get_user"),
        ("anything", "get_user", "get_user"),
        ("get_user", "nothing", None),  # an annotation is meant as it stands
        ("putUser", None, None),  # two would do
        ("put_user", None, "put_user"),
    ],
)
def test_a_name_is_found_in_another_style(
    name: str, alias: str | None, found: str | None
) -> None:
    """By its annotation, by itself, or by the only one that is spelled like it."""
    known = {each: each for each in ("get_user", "put_user", "put-user")}
    assert Names(known).find(name, alias) == found


def test_a_request_has_what_is_needed_and_nothing_else() -> None:
    """A reply may leave a field out, and has none that is not given."""
    theirs = {"note": 1, "nota": 2}
    assert bind_fields(theirs, ORDER, "in").problems("pb.Order", "shop.buy") == [
        "pb.Order lacks the field 'order_id', which shop.buy needs",
        "pb.Order.nota: shop.buy does not take it; it has order_id, note",
    ]
    assert bind_fields(theirs, ORDER, "out").problems("pb.Order", "shop.buy") == [
        "pb.Order.nota: shop.buy does not give it; it has order_id, note",
    ]
    bound = bind_fields({"orderId": 1, "remark": 2}, ORDER, "in", {"remark": "note"})
    assert [(theirs, ours.name) for theirs, ours in bound.pairs] == [
        (1, "order_id"),
        (2, "note"),
    ]
    assert bound.problems("pb.Order", "shop.buy") == []


def test_two_fields_are_not_one() -> None:
    """The second has no partner of its own."""
    bound = bind_fields({"order_id": 1, "orderId": 2}, ORDER, "in")
    assert bound.extra == ["orderId"]


def test_a_reply_has_every_option_and_a_request_no_other() -> None:
    """An option goes by its name, its tag or its type."""
    options = (
        Option("card", Shape("struct", "Card"), "card-v1"),
        Option("cash", Shape("struct", "Cash"), "cash-v1"),
    )
    union = Union("Payment", options, "type")
    named = bind_options(
        {"card_v1": 1, "money": 2}, union, "out", types={"money": "Cash"}
    )
    assert [(theirs, ours.name) for theirs, ours in named.pairs] == [
        (1, "card"),
        (2, "cash"),
    ]
    some = {"card": 1, "cheque": 2}
    assert bind_options(some, union, "in").problems("Payment", "shop.pay") == [
        "Payment.cheque: shop.pay does not take it; it has card, cash"
    ]
    assert bind_options(some, union, "out").problems("Payment", "shop.pay") == [
        "Payment lacks the option 'cash', which shop.pay gives"
    ]


def test_values_go_by_name_with_or_without_the_enums_own() -> None:
    """Numbers that are values go by number, whatever they are called."""
    theirs = {"COLOUR_RED": 1, "DEEP_BLUE": 2, "GREEN": 3}
    bound = bind_values(theirs, COLOUR, "in", prefix="Colour")
    assert dict(bound.pairs) == {1: "red", 2: "deep-blue"}
    assert bound.problems("pb.Colour", "shop.buy") == [
        "pb.Colour.GREEN: shop.buy does not take it; it has red, deep-blue"
    ]
    assert bind_values({"RED": 1}, COLOUR, "out").problems("C", "shop.buy") == [
        "C lacks the value 'deep-blue', which shop.buy gives"
    ]
    sizes = bind_values({"SMALL": 1, "TALL": 3}, Enum("Size", (1, 2)), "in")
    assert (dict(sizes.pairs), sizes.extra) == ({1: 1}, ["TALL"])


def test_one_value_has_one_number_which_may_have_two_names() -> None:
    """As protobuf's ``allow_alias`` has it."""
    bound = bind_values({"RED": 1, "ROT": 1, "red": 2, "DEEP_BLUE": 3}, COLOUR, "in")
    assert (dict(bound.pairs), bound.extra) == ({1: "red", 3: "deep-blue"}, ["red"])


def test_numbers_that_are_too_large_go_by_name() -> None:
    """The wire of both has 32 bits for them."""
    assert are_numbers((0, 2**31 - 1))
    assert not are_numbers((2**31,))
    bound = bind_values({"4294967296": 5}, Enum("Large", (2**32,)), "out")
    assert dict(bound.pairs) == {5: 2**32}


@pytest.mark.parametrize(
    ("spellings", "found"),
    [
        (["AddService"], "add_service"),
        (["Payments"], "PaymentsSvc"),
        (["Nothing", "payments_svc"], "PaymentsSvc"),
        (["Service"], ""),
    ],
)
def test_a_service_is_found_by_its_name_or_its_stem(
    spellings: list[str], found: str
) -> None:
    """`service`, `server` and `svc` at the end do not count where nothing fits better."""
    assert find_service(spellings, ["add", "add_service", "PaymentsSvc"]) == found


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("Adder=add", "there is no 'Adder' in the .thrift; did you mean 'Add'?"),
        ("Zzz=add", "there is no 'Zzz' in the .thrift; it has Add"),
        ("Add", "write Add=SERVICE"),
        ("Add=a.b", "write Add=SERVICE"),
        ("Add.Sum=add", "write Add.Sum=SERVICE.ENDPOINT"),
    ],
)
def test_a_mapping_that_does_not_fit_is_told(entry: str, sentence: str) -> None:
    """With what is there, or how to write it."""
    with pytest.raises(ValueError, match=sentence.replace("?", r"\?")):
        read_map([entry], {"Add": ["Sum"]}, ".", ".thrift")


def test_a_mapping_is_names_in_the_idl_to_names_on_the_bus() -> None:
    """A service's or a method's."""
    given = ["Add=addsvc", "Add.Sum=addsvc.sum"]
    found = {"Add": "addsvc", "Add.Sum": "addsvc.sum"}
    assert read_map(given, {"Add": ["Sum"]}, ".", ".thrift") == found
