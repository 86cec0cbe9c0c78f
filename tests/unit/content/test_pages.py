"""httpd.content.pages: well-formed whatever the names are, links that lead to the exact bytes."""

from urllib.parse import unquote_to_bytes, urljoin, urlsplit
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.content import pages, paths
from httpd.content.listing import ListEntry

names = st.binary(min_size=1, max_size=12).filter(lambda name: not {0, 0x2F} & set(name) and name not in (b".", b".."))


def parsed(page: bytes) -> ElementTree.Element:
    """The page as XML; the same bytes are HTML5, so what only one of the two knows must not be in it."""
    assert page.startswith(b"<!DOCTYPE html>\n")
    assert b"xmlns" not in page
    root = ElementTree.fromstring(page.decode("utf-8"))
    assert root.tag == "html"
    assert root.get("lang") == "en"
    title = root.findtext("head/title")
    assert title
    assert root.findtext("body/main/h1") == title
    return root


def rows(page: bytes) -> list[ElementTree.Element]:
    return parsed(page).findall("body/main/table/tbody/tr")


def entry(name: bytes, is_dir: bool = False, size: int = 0, mtime: float = 0) -> ListEntry:
    return ListEntry(name, is_dir, size, mtime)


def test_a_listing() -> None:
    page = pages.listing_page(b"/pub/", [entry(b"sub", True), entry(b"a&b.txt", size=1536, mtime=1_700_000_000.9)])
    root = parsed(page)
    assert root.findtext("head/title") == "Index of /pub/"
    assert [head.text for head in root.iter("th")] == ["Name", "Last modified (UTC)", "Size"]
    assert all(head.get("scope") == "col" for head in root.iter("th"))
    assert [(link.get("href"), link.text) for link in root.iter("a")] == [
        ("../", "Parent folder"),
        ("sub/", "sub/"),
        ("a%26b.txt", "a&b.txt"),
    ]
    folder, file = rows(page)
    assert "".join(folder[2].itertext()) == "-"
    size, time = file.find("td/span"), file.find("td/time")
    assert size is not None
    assert (size.text, size.get("title")) == ("1.5 KiB", "1536 bytes")
    assert time is not None
    assert (time.text, time.get("datetime")) == ("2023-11-14 22:13", "2023-11-14T22:13Z")


def test_the_top_has_no_parent() -> None:
    assert [link.get("href") for link in parsed(pages.listing_page(b"/", [entry(b"a")])).iter("a")] == ["a"]


def test_an_empty_folder_says_so() -> None:
    page = pages.listing_page(b"/", [])
    assert not list(parsed(page).iter("table"))
    assert b"empty" in page


@pytest.mark.parametrize(
    ("name", "href", "shown"),
    [
        (b"javascript:alert(1)", "./javascript:alert%281%29", "javascript:alert(1)"),
        (b"\xff\xfe.txt", "%FF%FE.txt", "\ufffd\ufffd.txt"),
        (b"a\nb\x07", "a%0Ab%07", "a\ufffdb\ufffd"),
        (b'"><script>', "%22%3E%3Cscript%3E", '"><script>'),
        (b"?#%20", "%3F%23%2520", "?#%20"),
        (b"\\\\host", "%5C%5Chost", "\\\\host"),
        ("\ufffe\u0085".encode(), "%EF%BF%BE%C2%85", "\ufffd\ufffd"),
        (b"{title}", "%7Btitle%7D", "{title}"),
    ],
)
def test_names(name: bytes, href: str, shown: str) -> None:
    link = rows(pages.listing_page(b"/", [entry(name)]))[0].find("td/a")
    assert link is not None
    assert (link.get("href"), link.text) == (href, shown)


@given(names, names, st.booleans())
def test_a_link_leads_to_its_name(folder: bytes, name: bytes, is_dir: bool) -> None:
    page = pages.listing_page(b"/" + folder + b"/", [entry(name, is_dir)])
    base = "http://host/" + paths.quote(folder).decode() + "/"
    parent, link = (urlsplit(urljoin(base, a.get("href") or "")) for a in parsed(page).iter("a"))
    assert (parent.netloc, parent.path) == ("host", "/")
    assert link.netloc == "host"
    assert unquote_to_bytes(link.path) == b"/" + folder + b"/" + name + (b"/" if is_dir else b"")


@pytest.mark.parametrize("mtime", [-1.0, 0.0, 253402300800.0, 1e18, -1e18, float("inf"), float("nan")])
def test_any_time(mtime: float) -> None:
    cell = rows(pages.listing_page(b"/", [entry(b"a", mtime=mtime)]))[0][1]
    text = "".join(cell.itertext())
    assert text == "-" or len(text) == len("1970-01-01 00:00")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (10188, "9.9 KiB"),
        (10189, "10 KiB"),
        (1024**2 - 513, "1023 KiB"),
        (1024**2 - 512, "1.0 MiB"),
        (5 * 1024**3, "5.0 GiB"),
        (2**63 - 1, "8.0 EiB"),
        (2**80, "1048576 EiB"),
    ],
)
def test_human_size(size: int, text: str) -> None:
    assert pages.human_size(size) == text


@given(st.integers(100, 599), st.text(max_size=30), st.text(max_size=60))
def test_error_pages_are_well_formed(status: int, reason: str, detail: str) -> None:
    root = parsed(pages.error_page(status, reason, detail))
    assert (root.findtext("head/title") or "").startswith(f"{status} ")
    assert (root.find("body/main/p") is not None) == bool(detail)
    assert not list(root.iter("script"))


def test_an_error_page() -> None:
    page = pages.error_page(404, "Not Found", "Nothing is at <b>&amp;\ud800\x00.")
    root = parsed(page)
    assert root.findtext("body/main/h1") == "404 Not Found"
    assert root.findtext("body/main/p") == "Nothing is at <b>&amp;\ufffd\ufffd."
    assert len(page) < 1500


@given(st.binary(max_size=40))
def test_redirect_pages_are_well_formed(location: bytes) -> None:
    parsed(pages.redirect_page(location))


def test_a_redirect_page() -> None:
    link = parsed(pages.redirect_page(b'/a/?x=1&y="<')).find("body/main/p/a")
    assert link is not None
    assert link.get("href") == link.text == '/a/?x=1&y="<'


@given(st.binary(max_size=20), st.lists(st.builds(entry, names, st.booleans(), st.integers(0), st.floats())))
def test_listings_are_well_formed(path: bytes, found: list[ListEntry]) -> None:
    assert len(rows(pages.listing_page(b"/" + path, found))) == len(found)
