import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.config import grammar
from httpd.config.errors import BadValueError

ACCEPTED = [
    (grammar.field_name, "X-Frame-Options", "X-Frame-Options"),
    (grammar.field_name, "!#$%&'*+-.^_`|~09az", "!#$%&'*+-.^_`|~09az"),
    (grammar.field_value, "", ""),
    (grammar.field_value, "a", "a"),
    (grammar.field_value, 'max-age=1, "x"\ty', 'max-age=1, "x"\ty'),
    (grammar.media_type, "text/html", "text/html"),
    (grammar.media_type, 'text/x.y+z; charset=utf-8 ;q="a \\" b"', 'text/x.y+z; charset=utf-8 ;q="a \\" b"'),
    (grammar.charset, "", ""),
    (grammar.charset, "iso-8859-1", "iso-8859-1"),
    (grammar.extension, ".HTML", ".html"),
    (grammar.extension, ".c++", ".c++"),
    (grammar.error_status, "404", "404"),
    (grammar.error_status, "5xx", "5xx"),
    (grammar.method, "M-SEARCH", "M-SEARCH"),
    (grammar.object_name, "app:Handler", "app:Handler"),
    (grammar.object_name, "my_app.hooks:Web.Hook", "my_app.hooks:Web.Hook"),
    (grammar.object_name, "http.server:ThreadingHTTPServer", "http.server:ThreadingHTTPServer"),
    (grammar.index_name, "index.html", "index.html"),
    (grammar.server_name, "Example.ORG.", "example.org"),
    (grammar.server_name, "*.Example.org", "*.example.org"),
    (grammar.server_name, "localhost", "localhost"),
    (grammar.server_name, "192.0.2.1", "192.0.2.1"),
    (grammar.server_name, "7", "7"),
    (grammar.server_name, "[0:0::1]", "[::1]"),
    (grammar.mount_path, "/", "/"),
    (grammar.mount_path, "/a b/%20/...", "/a b/%20/..."),
    (grammar.mount_path, "/.well-known/", "/.well-known/"),
    (grammar.redirect_target, "/new/%C3%A9", "/new/%C3%A9"),
    (grammar.redirect_target, "https://example.org", "https://example.org"),
    (grammar.redirect_target, "http://[::1]:8080/a", "http://[::1]:8080/a"),
]
REFUSED = [
    (
        grammar.field_name,
        ["", "a b", "a:", "\u00e9", "a\n", "date", "CONNECTION", "content-Length", "Transfer-encoding"],
    ),
    (grammar.field_name, ["content-range"]),
    (grammar.field_value, ["a\r\nb", "a\n", "a\0", " a", "a ", "\ta", "\x7f", "\u00e9"]),
    (
        grammar.media_type,
        ["", "text", "text/", "/html", "text/html;", "text/html; a", "text/html\n", "a b/c", 'a/b;c="'],
    ),
    (grammar.charset, ["utf 8", "\u00e9", "a\n", "a;b"]),
    (grammar.extension, ["", "html", ".", ".a/b", ".a b", ".tar.gz", ".a\n"]),
    (grammar.error_status, ["", "200", "4XX", "40", "4044", "xx4", "600", "404\n"]),
    (grammar.method, ["", "get", "Get", "G T", "G\n", "G\u00c9T"]),
    (grammar.object_name, ["", ":", "a", "a:", ":b", "a:b:c", "a.b", ".a:b", "a.:b", "a..b:c", "a:b.", "a:b..c"]),
    (
        grammar.object_name,
        ["a-b:c", "a:b()", "a :b", "a: b", "a:b\n", "1a:b", "app.py", "/srv/app.py:A", "app/hooks:A"],
    ),
    (grammar.index_name, ["", ".", "..", "a/b", "/", "a\nb"]),
    (
        grammar.server_name,
        ["", ".", "*", "*.", "a.*", "*a.org", "*.*.org", "a b", "a:80", "http://a", "a/b", "-a", "a-"],
    ),
    (
        grammar.server_name,
        ["\u00fc.org", "a..b", "[::1", "[::g]", "[::1]:80", "a\n", "x" * 64, ".".join(["x" * 60] * 5)],
    ),
    (grammar.mount_path, ["", "a", "//", "/a//b", "/a/./b", "/a/..", "/..", "/a\0", "/a\n"]),
    (
        grammar.redirect_target,
        ["", "a", "//a", "/a?b", "/a#b", "/a\r\nb", "/\u00e9", "/a b", "/%", "/%g0", "ftp://a/", "/a\\b"],
    ),
    (
        grammar.redirect_target,
        ["https://", "https:///a", "https://a b/", "https://u@a/", "javascript:x", "/a\x7f", '/"', "/<"],
    ),
]


@pytest.mark.parametrize(("check", "text", "result"), ACCEPTED)
def test_accepted(check, text, result):
    assert check(text) == result


@pytest.mark.parametrize(("check", "text"), [(check, text) for check, texts in REFUSED for text in texts])
def test_refused(check, text):
    with pytest.raises(BadValueError):
        check(text)


@given(st.text())
def test_what_reaches_a_response_is_one_line_of_ascii(text):
    """No configured text can split a response head."""
    for check in (
        grammar.field_name,
        grammar.field_value,
        grammar.media_type,
        grammar.charset,
        grammar.redirect_target,
    ):
        try:
            result = check(text)
        except BadValueError:
            continue
        assert result.isascii()
        assert all(character == "\t" or " " <= character <= "~" for character in result)


def test_hint_for_an_international_name():
    with pytest.raises(BadValueError) as caught:
        grammar.server_name("b\u00fccher.example")
    assert caught.value.hint == 'write "xn--bcher-kva.example"'


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("myapp.hooks.WebhookHandler", 'write "myapp.hooks:WebhookHandler"'),
        ("app.py", 'name its module, as "app:Handler", and its folder in `pythonpath`'),
        ("WebhookHandler", 'write it as "package.module:name"'),
    ],
)
def test_hint_for_the_name_of_a_handler(text, hint):
    with pytest.raises(BadValueError) as caught:
        grammar.object_name(text)
    assert caught.value.hint == hint
