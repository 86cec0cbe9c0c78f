"""Requests that differ from one to the next, made before anything is timed.

wrk takes them from a file as they are (`replay.lua`): formatting a head in Lua would cost the client more than
serving it costs the server.  All are seeded: every run and every server gets the same ones.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path

from files import MANY, SMALL

_GECKO = "Gecko/20100101 Firefox/{0}.0"
_BLINK = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{0}.0.0.0 Safari/537.36"
_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{0}.1 Safari/605.1.15"
_BROWSERS = (
    f"Mozilla/5.0 (X11; Linux x86_64; rv:{{0}}.0) {_GECKO}",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_BLINK}",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT}",
    f"Mozilla/5.0 (Linux; Android 10; K) {_BLINK}",
)
_LANGUAGES = ("en-GB,en;q=0.5", "en-US,en;q=0.9", "de-DE,de;q=0.9,en;q=0.8", "fr,fr-FR;q=0.8,en-US;q=0.5,en;q=0.3")

REPLAY = """
local requests, count, at = {}, 0, 0
function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  for request in file:read("*a"):gmatch("(.-\\r\\n\\r\\n)") do
    count = count + 1
    requests[count] = request
  end
  file:close()
end
function request()
  at = at % count + 1
  return requests[at]
end
"""


def browsers(prefix: str) -> list[bytes]:
    """4,096 requests for 1 KiB files with eight fields, as browsers send them; cookie, agent and query differ."""
    chance = random.Random(1)
    return [_browser(prefix, number, chance) for number in range(4096)]


def _browser(prefix: str, number: int, chance: random.Random) -> bytes:
    agent = chance.choice(_BROWSERS).format(chance.randrange(90, 140))
    fields = {
        "Host": "localhost",
        "User-Agent": agent,
        "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
        "Accept-Language": chance.choice(_LANGUAGES),
        "Accept-Encoding": "gzip, deflate, br",
        "Referer": f"http://localhost/page/{number}",
        "Connection": "keep-alive",
        "Cookie": f"session={chance.getrandbits(128):032x}; theme={chance.choice(('dark', 'light'))}",
    }
    lines = [f"GET {prefix}/{chance.choice(SMALL)}?v={number} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def zipf(prefix: str) -> list[bytes]:
    """65,536 requests for 10,000 files: the n-th most popular one is asked for 1/n as often as the first (s = 1.0)."""
    chance = random.Random(2)
    files = list(MANY)
    chance.shuffle(files)
    weights = list(itertools.accumulate(1 / rank for rank in range(1, len(files) + 1)))
    chosen = chance.choices(files, cum_weights=weights, k=65_536)
    return [f"GET {prefix}/{file} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for file in chosen]


def write(folder: Path, requests: list[bytes]) -> list[str]:
    """Write what wrk needs into `folder`; returns its options and, for behind the URL, its arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "replay.lua").write_text(REPLAY)
    (folder / "requests").write_bytes(b"".join(requests))
    return [str(folder / "replay.lua"), str(folder / "requests")]


def write_post(folder: Path, body: bytes) -> list[str]:
    """Write what wrk needs to send `body` along into `folder`; returns its options."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "body").write_bytes(body)
    script = folder / "post.lua"
    script.write_text(f'wrk.method = "POST"\nwrk.body = assert(io.open("{folder}/body", "rb")):read("*a")\n')
    return ["-s", str(script)]
