"""Media types by file name.  The table is this one, whatever the machine has in /etc/mime.types.

Rules:

- Types are those of the IANA registry where it has one; source code and the like, which it does not know,
  is text/plain, so that browsers show it.
- Only the last extension counts, without regard to case: "a.tar.gz" is application/gzip.  It is sent as it
  is, without Content-Encoding; a client that unpacked it on the way would save something else.
- A name without a known extension is application/octet-stream, but for a few that are text everywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

_TABLE = {
    # pages and what belongs to them
    "text/html": "html htm shtml",
    "text/css": "css",
    "text/javascript": "js mjs cjs",
    "application/json": "json map",
    "application/ld+json": "jsonld",
    "application/geo+json": "geojson",
    "application/manifest+json": "webmanifest",
    "application/wasm": "wasm",
    "application/xhtml+xml": "xhtml xht",
    "application/xml": "xml xsd xsl dtd rng",
    "application/xslt+xml": "xslt",
    "application/atom+xml": "atom",
    "application/rss+xml": "rss",
    "application/rdf+xml": "rdf",
    "text/vtt": "vtt",
    # images
    "image/png": "png",
    "image/apng": "apng",
    "image/jpeg": "jpg jpeg jpe jfif",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/heic": "heic",
    "image/heif": "heif",
    "image/jxl": "jxl",
    "image/jp2": "jp2",
    "image/svg+xml": "svg",
    "image/vnd.microsoft.icon": "ico cur",
    "image/bmp": "bmp",
    "image/tiff": "tif tiff",
    "image/vnd.adobe.photoshop": "psd",
    "image/vnd.djvu": "djvu djv",
    # fonts
    "font/woff": "woff",
    "font/woff2": "woff2",
    "font/ttf": "ttf",
    "font/otf": "otf",
    "font/collection": "ttc",
    "application/vnd.ms-fontobject": "eot",
    # video and sound
    "video/mp4": "mp4 m4v",
    "video/webm": "webm",
    "video/quicktime": "mov qt",
    "video/matroska": "mkv",
    "video/mpeg": "mpg mpeg mpe",
    "video/mp2t": "ts m2ts mts",
    "video/ogg": "ogv",
    "video/3gpp": "3gp",
    "video/x-msvideo": "avi",
    "video/x-ms-wmv": "wmv",
    "video/x-flv": "flv",
    "application/vnd.apple.mpegurl": "m3u8",
    "application/dash+xml": "mpd",
    "audio/mpeg": "mp3 mp2",
    "audio/mp4": "m4a m4b",
    "audio/aac": "aac",
    "audio/ogg": "ogg oga opus spx",
    "audio/flac": "flac",
    "audio/wav": "wav",
    "audio/webm": "weba",
    "audio/midi": "mid midi",
    "audio/x-aiff": "aif aiff",
    "audio/matroska": "mka",
    "audio/x-mpegurl": "m3u",
    "application/ogg": "ogx",
    # documents
    "application/pdf": "pdf",
    "application/epub+zip": "epub",
    "application/vnd.amazon.mobi8-ebook": "azw3",
    "application/x-mobipocket-ebook": "mobi",
    "application/postscript": "ps eps ai",
    "application/rtf": "rtf",
    "application/msword": "doc dot",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt pps",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.presentation": "odp",
    "application/vnd.oasis.opendocument.graphics": "odg",
    "text/markdown": "md markdown",
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "text/calendar": "ics ifb",
    "text/vcard": "vcf vcard",
    "application/x-bibtex": "bib",
    "application/gpx+xml": "gpx",
    "application/vnd.google-earth.kml+xml": "kml",
    "application/vnd.google-earth.kmz": "kmz",
    # archives, packages, images of disks
    "application/zip": "zip",
    "application/gzip": "gz tgz",
    "application/x-bzip2": "bz2 tbz tbz2",
    "application/x-xz": "xz txz",
    "application/x-lzma": "lzma",
    "application/zstd": "zst tzst",
    "application/x-compress": "z",
    "application/x-7z-compressed": "7z",
    "application/vnd.rar": "rar",
    "application/x-tar": "tar",
    "application/x-cpio": "cpio",
    "application/vnd.debian.binary-package": "deb udeb ddeb",
    "application/x-rpm": "rpm",
    "application/vnd.android.package-archive": "apk",
    "application/java-archive": "jar war ear",
    "application/x-java-jnlp-file": "jnlp",
    "application/x-xpinstall": "xpi",
    "application/vnd.efi.iso": "iso",
    "application/vnd.efi.img": "img",
    "application/x-apple-diskimage": "dmg",
    "application/vnd.microsoft.portable-executable": "exe dll",
    "application/x-msi": "msi",
    "application/x-bittorrent": "torrent",
    "application/metalink4+xml": "meta4",
    # data, keys, mail
    "application/yaml": "yaml yml",
    "application/toml": "toml",
    "application/sql": "sql",
    "application/vnd.sqlite3": "sqlite sqlite3 db",
    "application/x-ndjson": "ndjson jsonl",
    "application/vnd.apache.parquet": "parquet",
    "application/x-ipynb+json": "ipynb",
    "application/pgp-signature": "sig",
    "application/pkix-cert": "cer",
    "application/pkix-crl": "crl",
    "application/x-x509-ca-cert": "crt",
    "application/x-pem-file": "pem",
    "application/pkcs12": "p12 pfx",
    "application/mbox": "mbox",
    "message/rfc822": "eml",
    "model/gltf+json": "gltf",
    "model/gltf-binary": "glb",
    "model/stl": "stl",
    "model/obj": "obj",
    # text to read: prose and settings, checksums, source code
    "text/plain": """
        txt text log conf cfg cnf ini env properties list asc nfo rst adoc org tex srt diff patch me debian
        md5 sha1 sha256 sha512
        c h cc cpp cxx hpp hh cs d go rs java kt scala swift m py pyi pyx rb pl pm php lua r jl hs ml el lisp
        clj erl ex sh bash zsh fish bat ps1 awk sed vim asm s f90 pas jsx tsx vue svelte scss sass less coffee
        tcl cmake mk gradle nix service socket timer proto graphql tf
    """,
}

_BY_EXTENSION = {extension: type_ for type_, names in _TABLE.items() for extension in names.split()}

# Names without an extension that are text by convention, in lower case.
_TEXT_NAMES = frozenset(
    b"""
        readme license licence license-apache license-mit copying copyright notice authors contributors
        maintainers credits thanks changelog changes history news todo faq bugs hacking install version
        makefile dockerfile md5sums sha1sums sha256sums sha512sums
    """.split()
)

_UNKNOWN = "application/octet-stream"
_LONGEST = max(map(len, _BY_EXTENSION))  # of an extension that is known


def media_type(name: bytes, overrides: Mapping[str, str], charset: str) -> bytes:
    """The Content-Type of the file `name` (its last path segment).

    `overrides` maps ".ext" in lower case to a type and comes first; one for ".tar.gz" comes before one for
    ".gz". `charset` is added to text types that have no parameter yet, unless it is empty.
    """
    lower = name.lower()
    found = _override(lower, overrides) if overrides else None
    if found is None:
        stem, _, extension = lower.rpartition(b".")
        if stem:  # ".html" is a hidden file without an extension
            return _of_extension(extension, charset) if len(extension) <= _LONGEST else _field(_UNKNOWN, charset)
        found = "text/plain" if lower in _TEXT_NAMES else _UNKNOWN
    return _field(found, charset)


@functools.lru_cache(maxsize=256)
def _of_extension(extension: bytes, charset: str) -> bytes:
    return _field(_BY_EXTENSION.get(extension.decode("latin-1"), _UNKNOWN), charset)


def _field(found: str, charset: str) -> bytes:
    if charset and found.startswith("text/") and ";" not in found:
        found = f"{found}; charset={charset}"
    return found.encode("latin-1")


def _override(lower: bytes, overrides: Mapping[str, str]) -> str | None:
    dot = lower.find(b".", 1)
    while dot > 0:
        found = overrides.get(lower[dot:].decode("utf-8", "surrogateescape"))
        if found is not None:
            return found
        dot = lower.find(b".", dot + 1)
    return None
