import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.config.errors import BadValueError
from httpd.config.schema import Address
from httpd.config.values import (
    DURATION_UNITS,
    SIZE_UNITS,
    absolute_path,
    parse_address,
    parse_duration,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        (65536, 65536),
        ("0B", 0),
        ("64KiB", 65536),
        ("64 KiB", 65536),
        ("10MB", 10_000_000),
        ("1kB", 1000),
        ("1.5KiB", 1536),
        ("2TiB", 2 * 1024**4),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_size(value, size):
    assert parse_size(value) == size
    assert type(parse_size(value)) is int


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        1.0,
        -1,
        2**63,
        10**50,
        "",
        "64",
        "64kib",
        "64K",
        "KiB",
        "-1KiB",
        "+1KiB",
        "1e3B",
        "1,5KiB",
        "64KiB ",
        " 64KiB",
        "64  KiB",
        "64KiB\n",
        "1.0001KiB",
        ".5KiB",
        "\u0661KiB",
        "9999999999TiB",
        None,
        [],
        {},
    ],
)
def test_size_refused(value):
    with pytest.raises(BadValueError):
        parse_size(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0),
        (10, 10.0),
        (0.25, 0.25),
        ("250ms", 0.25),
        ("7ms", 0.007),
        ("30s", 30.0),
        ("1.5s", 1.5),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
        ("3650d", 3650 * 86400.0),
    ],
)
def test_duration(value, seconds):
    assert parse_duration(value) == seconds
    assert type(parse_duration(value)) is float


@pytest.mark.parametrize(
    "value",
    [
        True,
        -1,
        -0.001,
        math.nan,
        math.inf,
        -math.inf,
        10**50,
        "",
        "30",
        "30 seconds",
        "1m30s",
        "-5s",
        "5S",
        "5us",
        "s",
        "1e3s",
        "5000d",
        "nan",
        "inf",
        "\u0665s",
        "5s\n",
        None,
        [],
    ],
)
def test_duration_refused(value):
    with pytest.raises(BadValueError):
        parse_duration(value)


@pytest.mark.parametrize(("value", "rate"), [(0, 0), (500, 500), ("500B/s", 500), ("64KiB/s", 65536)])
def test_rate(value, rate):
    assert parse_rate(value) == rate


@pytest.mark.parametrize("value", [True, 1.5, -1, "500", "500B", "500/s", "B/s", "500B/m", "500B/s/s", None])
def test_rate_refused(value):
    with pytest.raises(BadValueError):
        parse_rate(value)


@given(st.integers(0, 10**6), st.sampled_from(sorted(SIZE_UNITS)))
def test_every_size_that_is_written_is_read(number, unit):
    assert parse_size(f"{number}{unit}") == number * SIZE_UNITS[unit]


@given(st.integers(0, 3000), st.sampled_from(sorted(DURATION_UNITS)))
def test_every_duration_that_is_written_is_read(number, unit):
    factor, divisor = DURATION_UNITS[unit]
    assert parse_duration(f"{number}{unit}") == number * factor / divisor


ANYTHING = st.one_of(
    st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.text()), st.dates(),
    st.text("0123456789.:[]%/abf-KMiBs "),
)  # fmt: skip


@given(ANYTHING)
def test_anything_is_a_value_or_a_bad_value(value):
    for parse in (
        parse_size,
        parse_duration,
        parse_rate,
        lambda v: parse_address(v, "/x"),
        lambda v: absolute_path(v, "/x"),
    ):
        try:
            parse(value)
        except BadValueError as error:
            assert error.message


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":80", Address(":80", host="", port=80)),
        (":0", Address(":0", host="", port=0)),
        (":65535", Address(":65535", host="", port=65535)),
        ("127.0.0.1:8000", Address("127.0.0.1:8000", host="127.0.0.1", port=8000)),
        ("LocalHost:1", Address("localhost:1", host="localhost", port=1)),
        ("my_host.example:1", Address("my_host.example:1", host="my_host.example", port=1)),
        ("[0:0::1]:80", Address("[::1]:80", host="::1", port=80)),
        ("[::]:80", Address("[::]:80", host="::", port=80)),
        ("[::FFFF:1.2.3.4]:80", Address("[::ffff:1.2.3.4]:80", host="::ffff:1.2.3.4", port=80)),
        ("[fe80::1%eth0]:80", Address("[fe80::1%eth0]:80", host="fe80::1%eth0", port=80)),
        ("unix:/run/a.sock", Address("unix:/run/a.sock", kind="unix", path="/run/a.sock")),
        ("unix:a.sock", Address("unix:/etc/httpd/a.sock", kind="unix", path="/etc/httpd/a.sock")),
    ],
)
def test_address(text, address):
    assert parse_address(text, "/etc/httpd") == address
    assert parse_address(address.text, "/elsewhere") == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "80",
        ":",
        ":80 ",
        " :80",
        ":-1",
        ":+1",
        ":080",
        ":65536",
        ":\u0661",
        ":http",
        "*:80",
        "a b:80",
        "a..b:80",
        "-a:80",
        "1.2.3:80",
        "1.2.3.256:80",
        "::1",
        "::1:80",
        "[::1]",
        "[::1:80",
        "[]:80",
        "[1.2.3.4]:80",
        "[::1%]:80",
        "[::1%a b]:80",
        "host",
        "systemd:web",
        "unix:",
        "unix:/" + "x" * 200,
        "unix:/a\nb",
        "http://a:80",
        "\u00e9:80",
        True,
        80,
    ],
)
def test_address_refused(text):
    with pytest.raises(BadValueError):
        parse_address(text, "/etc/httpd")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("80", '":80"'),
        (8080, '":8080"'),
        ("::1", '"[::1]:80"'),
        ("::1:81", '"[::1]:81"'),
        ("[::1]", '"[::1]:80"'),
        ("*:81", '":81"'),
        ("localhost", '"localhost:80"'),
        ("/run/a", '"unix:/run/a"'),
    ],
)
def test_address_hint_is_the_right_way_to_write_it(text, hint):
    with pytest.raises(BadValueError) as caught:
        parse_address(text, "/")
    assert hint in caught.value.hint
    parse_address(hint.strip('"'), "/")


@pytest.mark.parametrize("text", ["", "a b", "x:y:z", "a_!b:80"])
def test_address_without_a_likely_meaning_gets_all_forms(text):
    with pytest.raises(BadValueError) as caught:
        parse_address(text, "/")
    assert '":80"' in caught.value.hint or "port is a number" in caught.value.hint
    assert text not in caught.value.hint or not text


def test_longest_socket_path():
    path = "/" + "x" * 102
    assert parse_address(f"unix:{path}", "/").path == path
    with pytest.raises(BadValueError, match="104 bytes"):
        parse_address(f"unix:{path}x", "/")
    with pytest.raises(BadValueError, match="105 bytes"):
        parse_address("unix:/" + "\u00e9" * 52, "/")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/srv", "/srv"),
        ("/", "/"),
        ("/srv//www/./a/", "/srv/www/a"),
        ("www", "/etc/httpd/www"),
        (".", "/etc/httpd"),
        ("../www", "/etc/httpd/../www"),  # ".." is the kernel's to resolve
        ("/srv/caf\u00e9 \U0001fae8", "/srv/caf\u00e9 \U0001fae8"),
    ],
)
def test_absolute_path(text, path):
    assert absolute_path(text, "/etc/httpd") == path


@pytest.mark.parametrize("text", ["", "a\0b", "a\nb", "a\x7fb", "~/www", "~user", 5, True, None])
def test_absolute_path_refused(text):
    with pytest.raises(BadValueError):
        absolute_path(text, os.sep)


@pytest.mark.parametrize("parse", [parse_size, parse_duration, parse_rate])
def test_a_number_too_long_for_python_to_print_is_refused(parse):
    with pytest.raises(BadValueError):
        parse(10**5000)
