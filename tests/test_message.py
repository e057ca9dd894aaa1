"""Messages: header blocks, subjects, names."""

from __future__ import annotations

import pytest

from kitmsg.errors import InvalidArgument
from kitmsg.message import (
    EMPTY_HEADERS,
    Headers,
    Message,
    all_printable,
    check_name,
    check_subject,
    encode_headers,
    joined_headers,
    matches,
    printable,
)


def test_header_block_is_what_nats_clients_write():
    """The bytes are those of ADR-4."""
    block = encode_headers({"Kit-Timeout": "2000", "A": "ü"})
    assert block == b"NATS/1.0\r\nKit-Timeout: 2000\r\nA: \xc3\xbc\r\n\r\n"
    assert encode_headers({}) == b""


def test_headers_come_back_as_they_were():
    """Parsing is the inverse of encoding."""
    fields = {"Kit-Timeout": "2000", "x": "a: b, c", "Empty": ""}
    assert dict(Headers.parse(encode_headers(fields))) == fields


def test_no_block_has_no_headers():
    """A message without headers has the empty ones."""
    assert Headers.parse(b"") is EMPTY_HEADERS
    assert Message("a").headers == {}


def test_header_names_have_no_case():
    """A name is found however it is written."""
    headers = Headers.parse(b"NATS/1.0\r\nContent-TYPE:text\r\n\r\n")
    assert headers["content-type"] == headers["Content-Type"] == "text"
    assert "CONTENT-type" in headers
    assert 3 not in headers  # type: ignore[comparison-overlap]
    assert headers.get("other") is None
    assert headers.single("CONTENT-TYPE") == "text"
    assert headers.single("other") == ""


def test_duplicate_header_keeps_every_value_and_single_refuses_it():
    """One value where one is meant; all where a list is."""
    headers = Headers.parse(b"NATS/1.0\r\nA: 1\r\na: 2\r\nB: 3\r\n\r\n")
    assert headers["A"] == "1"
    assert headers.all("A") == ["1", "2"]
    assert headers.pairs() == (("A", "1"), ("a", "2"), ("B", "3"))
    assert headers.single("b") == "3"
    with pytest.raises(InvalidArgument, match="A came more than once") as caught:
        headers.single("A")
    assert caught.value.field == "A"


def test_headers_are_a_mapping_even_with_duplicates():
    """Length, iteration and items agree: each name once, as it was first written."""
    headers = Headers([("A", "1"), ("a", "2"), ("B", "3")])
    assert list(headers) == ["A", "B"]
    assert len(headers) == len(list(headers)) == 2
    assert dict(headers) == {"A": "1", "B": "3"}
    assert repr(headers) == "Headers({'A': '1', 'B': '3'})"


@pytest.mark.parametrize(
    "block",
    [
        b"HTTP/1.1\r\nA: 1\r\n\r\n",
        b"NATS/1.01\r\nA: 1\r\n\r\n",
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\n: no name\r\n\r\n",
        b"NATS/1.0\r\nA b: 1\r\n\r\n",
        b"NATS/1.0\r\nA : 1\r\n\r\n",
        b"NATS/1.0\r\nA: \xff\r\n\r\n",
        b"NATS/1.0\r\n\xc3\xbc: 1\r\n\r\n",
        b"NATS/1.0\r\nA: 1\nB: 2\r\n\r\n",
        b"NATS/1.0\r\nA: 1\rB: 2\r\n\r\n",
        b"NATS/1.0\r\nA: \x00\r\n\r\n",
    ],
)
def test_malformed_header_block_is_refused(block):
    """What is not a block of fields is the sender's mistake."""
    with pytest.raises(InvalidArgument, match="header"):
        Headers.parse(block)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("A", "1\r\nB: 2"),
        ("A", "1\nB: 2"),
        ("A", "1\rB"),
        ("A", "\0"),
        ("A", "\ud800"),
        ("A\r\nB", "1"),
        ("A:", "1"),
        ("", "1"),
        ("ü", "1"),
    ],
)
def test_header_that_could_forge_another_is_not_sent(name, value):
    """Line breaks and bad names never reach the wire."""
    with pytest.raises(InvalidArgument) as caught:
        encode_headers({name: value})
    assert caught.value.field == name


def test_status_is_read_from_the_first_line():
    """The server's own replies have a number and no fields."""
    reply = Message("a", header_block=b"NATS/1.0 503\r\n\r\n")
    assert reply.status == 503
    assert reply.headers == {}
    named = Message("a", header_block=b"NATS/1.0 408 Request Timeout\r\nA: 1\r\n\r\n")
    assert (named.status, named.headers["a"]) == (408, "1")
    assert Message("a", header_block=b"NATS/1.0\r\nA: 1\r\n\r\n").status == 0
    assert Message("a").status == 0


def test_headers_are_parsed_when_somebody_looks_and_once():
    """A malformed block costs nothing until it is read."""
    message = Message("a", b"xyz", "r", b"junk")
    assert repr(message) == "Message('a', 3 bytes, reply='r')"
    with pytest.raises(InvalidArgument):
        _ = message.headers
    good = Message("a", header_block=b"NATS/1.0\r\nA: 1\r\n\r\n")
    assert good.headers is good.headers


@pytest.mark.parametrize(
    "subject", ["a", "a.b", "_kit.i.x1.greeter.hello", "a*.b", "ü"]
)
def test_subject_one_can_send_to(subject):
    """Dotted tokens are a subject."""
    assert check_subject(subject) == subject


@pytest.mark.parametrize(
    "subject",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "a b",
        "a\t",
        "a\r\nPUB x",
        "a\0",
        "a.*",
        ">",
        "\udcff",
    ],
)
def test_subject_one_cannot_send_to(subject):
    """Empty tokens, white space, wildcards and broken text are refused."""
    with pytest.raises(InvalidArgument, match="subject"):
        check_subject(subject)


def test_wildcards_are_for_subscribing():
    """A pattern is a subject with ``*`` tokens and a last ``>``."""
    for pattern in ("*", ">", "a.*.b", "a.>"):
        assert check_subject(pattern, wildcards=True) == pattern
    with pytest.raises(InvalidArgument, match="last token"):
        check_subject("a.>.b", wildcards=True)


def test_names_of_services_and_endpoints():
    """ADR-32's names, and a message that says whose name is wrong."""
    assert check_name("add-svc_2", "service") == "add-svc_2"
    for bad in ("", "a.b", "a b", "ü", "a\n"):
        with pytest.raises(ValueError, match="service is named"):
            check_name(bad, "service")


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.b", "a", False),
        ("a", "a.b", False),
        ("*", "a", True),
        ("*", "a.b", False),
        ("a.*.c", "a.b.c", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a.b", True),
    ],
)
def test_pattern_covers_subject(pattern, subject, expected):
    """``*`` is one token, ``>`` one or more."""
    assert matches(pattern, subject) is expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("Größe 你好", "Größe 你好"),
        ("\x1b[2Jgone", " [2Jgone"),
        ("a\nb\r\tc", "a b  c"),
        ("safe\u202efdp.exe", "safe fdp.exe"),
        ("\x9b31mred\x7f", " 31mred "),
        ("line\u2028break", "line break"),
    ],
)
def test_what_is_shown_moves_no_terminal(text: str, shown: str) -> None:
    """No controls, no line separators, nothing that turns text around."""
    assert printable(text) == shown
    assert all_printable({text: [text, 1, None]}) == {shown: [shown, 1, None]}


def test_lines_may_stay() -> None:
    """Where a text has several, such as a traceback."""
    assert printable("a\n\tb\x1b\rc", lines=True) == "a\n\tb  c"


@pytest.mark.parametrize("first", [{}, {"A": "1"}])
@pytest.mark.parametrize("second", [{}, {"B": "2", "C": "3"}])
def test_header_blocks_are_joined(
    first: dict[str, str], second: dict[str, str]
) -> None:
    joined = joined_headers(encode_headers(first), encode_headers(second))
    assert joined == encode_headers({**first, **second})
