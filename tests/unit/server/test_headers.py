"""Request fields as handlers see them: a message like any other, filled when somebody looks."""

from __future__ import annotations

import copy
import email.message
import http.client
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from httpd.server.headers import Headers, field_values, message_of

BLOCK = (
    b"\nHost: example.org\r\nX-One: first\r\nAccept:text/html\r\nx-one:  second \r\nX-Empty:\r\n"
    b'Content-Type: text/plain; charset=utf-8; name="a b"\r\nContent-Length: 5\r\nX-Latin: gr\xfc\xdfe\r\n'
    b"X-Colon: a:b: c\r\n"
)


def by_library() -> http.client.HTTPMessage:
    """The same fields as http.client makes them; it keeps white space at the end of a value, which is none of it."""
    stripped = b"\r\n".join(line.rstrip() for line in BLOCK[1:].split(b"\r\n"))
    return http.client.parse_headers(io.BytesIO(stripped + b"\r\n"))


def lazily() -> Headers:
    return Headers.lazily(BLOCK)


def filled() -> Headers:
    made = lazily()
    made.keys()
    return made


LOOKS: dict[str, Callable[[Any], Any]] = {
    "[]": lambda m: (m["host"], m["X-ONE"], m["nothing"], m["x-empty"]),
    "get": lambda m: (m.get("accept"), m.get("nothing"), m.get("nothing", 7), m.get("X-Latin"), m.get("x-colon")),
    "get_all": lambda m: (m.get_all("X-One"), m.get_all("nothing"), m.get_all("nothing", [])),
    "in": lambda m: ("HOST" in m, "x-one" in m, "nothing" in m, "ost" in m, "" in m),
    "len": len,
    "keys": lambda m: m.keys(),
    "values": lambda m: m.values(),
    "items": lambda m: m.items(),
    "iter": list,
    "raw_items": lambda m: list(m.raw_items()),
    "str": str,
    "bytes": bytes,
    "as_string": lambda m: m.as_string(unixfrom=True),
    "as_bytes": lambda m: m.as_bytes(),
    "get_content_type": lambda m: (m.get_content_type(), m.get_content_maintype(), m.get_content_subtype()),
    "get_content_charset": lambda m: (m.get_content_charset(), m.get_charsets(), m.get_charset()),
    "get_param": lambda m: (m.get_param("name"), m.get_param("nothing"), m.get_params()),
    "get_filename": lambda m: (m.get_filename(), m.get_boundary(), m.get_content_disposition()),
    "get_default_type": lambda m: m.get_default_type(),
    "get_payload": lambda m: (m.get_payload(), m.is_multipart()),
    "getallmatchingheaders": lambda m: m.getallmatchingheaders("host"),
    "walk": lambda m: len(list(m.walk())),
    "unixfrom": lambda m: (m.get_unixfrom(), m.preamble, m.epilogue, m.defects),
    "bool": bool,
    "policy": lambda m: m.policy,
    "dict": dict,
    "sorted": lambda m: sorted(set(m)),
}

CHANGES: dict[str, Callable[[Any], Any]] = {
    "set": lambda m: m.__setitem__("X-New", "n"),
    "add_header": lambda m: m.add_header("X-New", "value", name="p"),
    "replace_header": lambda m: m.replace_header("host", "other"),
    "del": lambda m: m.__delitem__("x-one"),
    "del nothing": lambda m: m.__delitem__("nothing"),
    "set_param": lambda m: m.set_param("charset", "latin-1"),
    "del_param": lambda m: m.del_param("charset"),
    "set_type": lambda m: m.set_type("text/html"),
    "set_default_type": lambda m: m.set_default_type("text/x"),
    "set_boundary": lambda m: m.set_boundary("b"),
    "set_payload": lambda m: m.set_payload("body"),
    "set_charset": lambda m: m.set_charset("utf-8"),
    "set_unixfrom": lambda m: m.set_unixfrom("From x"),
    "set_raw": lambda m: m.set_raw("x-raw", "1"),
    "set behind a look": lambda m: (m.get("host"), m.__setitem__("Host", "another")),
}


@pytest.mark.parametrize("make", [lazily, filled])
@pytest.mark.parametrize("name", LOOKS)
def test_every_look_is_the_library_s(name: str, make: Callable[[], Headers]) -> None:
    look = LOOKS[name]
    assert look(make()) == look(by_library())


@pytest.mark.parametrize("make", [lazily, filled])
@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_the_library_s(name: str, make: Callable[[], Headers]) -> None:
    ours, theirs = make(), by_library()
    assert CHANGES[name](ours) == CHANGES[name](theirs)
    assert ours.items() == theirs.items()
    assert (ours.get_payload(), ours.get_default_type()) == (theirs.get_payload(), theirs.get_default_type())
    assert ours.get("X-New") == theirs.get("X-New")
    assert ours["host"] == theirs["host"]


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_may_come_first(name: str) -> None:
    ours, theirs = lazily(), by_library()
    CHANGES[name](ours)
    CHANGES[name](theirs)
    assert ours.items() == theirs.items()
    assert (ours.get_payload(), ours.get_default_type()) == (theirs.get_payload(), theirs.get_default_type())
    assert ours.get_unixfrom() == theirs.get_unixfrom()


def test_it_is_a_message() -> None:
    for kind in (http.client.HTTPMessage, email.message.Message):
        assert isinstance(lazily(), kind)


def test_replacing_what_is_not_there() -> None:
    with pytest.raises(KeyError):
        lazily().replace_header("nothing", "x")


def test_the_value_of_the_first_counts_and_white_space_does_not() -> None:
    made = Headers.lazily(b"\nA: \t x \t\r\nB:y\r\nA: z\r\nC: \r\nD:\t1 2\t3\r\n")
    for _ in range(2):
        assert [made[name] for name in "ABCD"] == ["x", "y", "", "1 2\t3"]
        assert made.items() == [("A", "x"), ("B", "y"), ("A", "z"), ("C", ""), ("D", "1 2\t3")]


def test_bare_line_feeds() -> None:
    made = Headers.lazily(b"\nA: 1\nB: 2 \n")
    assert (made["a"], made["b"]) == ("1", "2")
    assert made.items() == [("A", "1"), ("B", "2")]


def test_a_name_is_not_found_in_a_value() -> None:
    made = Headers.lazily(b"\nA: b: c\r\nX-B: 1\r\n")
    assert (made["b"], made["x-b"]) == (None, "1")


def test_none_at_all() -> None:
    made = Headers.lazily(b"\n")
    assert (made["a"], made.items(), len(made), bool(list(made))) == (None, [], 0, False)


@pytest.mark.parametrize("make", [lazily, filled])
def test_deleting_while_iterating(make: Callable[[], Headers]) -> None:
    made = make()
    for name in made.keys():  # noqa: SIM118 - the list of them
        del made[name]
    assert made.items() == []
    made = make()
    for name in made.keys():  # noqa: SIM118
        if name.lower().startswith("x-"):
            del made[name]
    assert made.keys() == ["Host", "Accept", "Content-Type", "Content-Length"]


@pytest.mark.parametrize("make", [lazily, filled])
@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))],
    ids=["copy", "deep", "pickle"],
)
def test_copies(make: Callable[[], Headers], duplicate: Callable[[Headers], Headers]) -> None:
    first = make()
    second = duplicate(first)
    assert second.items() == first.items() == by_library().items()
    assert second["host"] == "example.org"
    assert isinstance(second, Headers)


def test_a_deep_copy_is_its_own() -> None:
    first = lazily()
    second = copy.deepcopy(first)
    second["X-New"] = "1"
    assert "X-New" not in first


def test_what_it_does_not_have() -> None:
    made = lazily()
    with pytest.raises(AttributeError):
        made.nothing  # noqa: B018
    assert not hasattr(made, "__wrapped__")
    made.note = "kept"  # type: ignore[attr-defined]
    assert made.note == "kept"  # type: ignore[attr-defined]


def test_an_empty_one() -> None:
    made = Headers()
    made["A"] = "1"
    assert made.items() == [("A", "1")]


# Another class


def test_a_class_of_the_handler_s_own() -> None:
    class Own(http.client.HTTPMessage):
        def first(self) -> Any:
            return self.keys()[0]

    made = message_of(BLOCK, Own)
    assert isinstance(made, Own)
    assert made.first() == "Host"
    assert made["x-one"] == "first"
    assert type(message_of(BLOCK, http.client.HTTPMessage)) is Headers
    assert isinstance(message_of(BLOCK, email.message.EmailMessage), email.message.EmailMessage)


def test_values_of_pairs() -> None:
    assert field_values([("A", "1"), ("b", "2"), ("a", "3")], "a") == ["1", "3"]
