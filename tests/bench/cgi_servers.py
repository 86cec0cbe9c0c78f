"""Servers that run scripts, and these scripts: httpd, lighttpd's mod_cgi, Apache's mod_cgid.

- Each has two workers and all cores, which the scripts and the client share with them.
- Each starts a program per request and waits for it; httpd's /warm has Python scripts forked from an interpreter that
  is up already, and the peers run the same script by exec.
- Started as root, all have workers that are www-data, and the peers scripts that are; httpd's scripts are nobody's.
- What a server costs is all of its processes with the scripts that have ended.  Apache's scripts are not in it: it
  ignores SIGCHLD, and nobody adds up what they took.  So throughput decides.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from pathlib import Path

import psutil
from load import Load
from servers import Httpd, Lighttpd, Server

_MODULES = Path("/usr/lib/apache2/modules")
_HELLO = r"""
#include <stdio.h>
int main(void)
{
    fputs("Content-Type: text/plain\n\nHello, world!\n", stdout);
    return 0;
}
"""
_FORM = """#!/usr/bin/python3
import json
import os
import sys
from urllib.parse import parse_qs

form = parse_qs(sys.stdin.buffer.read(int(os.environ["CONTENT_LENGTH"])).decode())
print("Content-Type: application/json\\n")
print(json.dumps({name: len(values[0]) for name, values in form.items()}))
"""
_SLEEPS = "#!/bin/sh\nexec sleep 1000\n"
_FIELDS = {"name": "Ada", "text": "x" * 4074}
_SENT = "&".join(f"{name}={value}" for name, value in _FIELDS.items()).encode()
FORM = Load(
    "/warm/form.py", ("Content-Type: application/x-www-form-urlencoded",), body=b'{"name": 3, "text": 4074}\n',
    post=_SENT,
)  # fmt: skip


def scripts(folder: Path) -> Path:
    """The folder of the scripts, made when first asked for; without a compiler there is no hello."""
    made = folder / "scripts"
    if not made.exists():
        made.mkdir(mode=0o755)
        for name, text in (("form.py", _FORM), ("sleeps", _SLEEPS)):
            (made / name).write_text(text)
            (made / name).chmod(0o755)
        if shutil.which("cc"):
            source = folder / "hello.c"
            source.write_text(_HELLO)
            subprocess.run(["cc", "-O2", "-o", str(made / "hello"), str(source)], check=True)
    return made


class _Counted(Server):
    """A server whose children's children are counted."""

    pinned = False

    def __init__(self, folder: Path, site: Path, core: int | None) -> None:
        self.scripts = scripts(folder)
        super().__init__(folder, site, core)

    def cpu_seconds(self) -> float:
        top, total = psutil.Process(self.pid), 0.0
        for process in (top, *top.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.status() != psutil.STATUS_ZOMBIE:
                    total += sum(process.cpu_times()[:4])
        return total


class HttpdCgi(_Counted, Httpd):
    name = "httpd-cgi"
    concurrency = 32

    def __init__(self, folder: Path, site: Path, core: int | None) -> None:
        self.scripts = scripts(folder)
        Httpd.__init__(self, folder, site, core, workers=2)

    def vhost(self) -> str:
        user = 'user = "nobody"\n' if os.geteuid() == 0 else ""
        more = {"/cgi-bin": f"concurrency = {self.concurrency}\n", "/warm": "warm_python = true\n"}
        warm = 'warm_modules = ["json", "urllib.parse"]\n'
        mounts = [
            f'[[vhost.cgi]]\npath = "{path}"\nroot = "{self.scripts}"\n{user}{lines}' for path, lines in more.items()
        ]
        return "".join([f'root = "{self.site}"\n', *mounts, warm])


class HttpdCgi200(HttpdCgi):
    """With room for many scripts."""

    name = "httpd-cgi-200"
    concurrency = 200


class HttpdCgiSame(HttpdCgi):
    """Started as the user whom its scripts run as."""

    name = "httpd-cgi-same"

    @classmethod
    def missing(cls) -> str:
        """What isn't installed; empty when it can be started."""
        return "" if shutil.which("setpriv") else "setpriv"

    def command(self) -> list[str]:
        who = pwd.getpwnam("nobody")
        os.chown(self.folder, who.pw_uid, who.pw_gid)
        change = ["setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups"]
        return [*change, *super().command()]

    def vhost(self) -> str:
        return super().vhost().replace('user = "nobody"\n', "")


class LighttpdCgi(_Counted, Lighttpd):
    name = "lighttpd-cgi"

    def command(self) -> list[str]:
        command = super().command()
        if os.geteuid() == 0:
            shutil.chown(self.folder, _USER, _USER)  # it opens its logs as that user
        config = self.folder / "lighttpd.conf"
        text = config.read_text().replace('("mod_accesslog")', '("mod_alias", "mod_accesslog", "mod_cgi")')
        alias = ", ".join(f'"{path}/" => "{self.scripts}/"' for path in ("/cgi-bin", "/warm"))
        user = f'server.username = "{_USER}"\nserver.groupname = "{_USER}"\n' if os.geteuid() == 0 else ""
        config.write_text(
            f'{text}{user}server.max-worker = 2\nalias.url = ({alias})\n'
            '$HTTP["url"] =~ "^/(cgi-bin|warm)/" { cgi.assign = ("" => "") }\n'
        )
        return command


class ApacheCgi(_Counted):
    """mod_cgid, as Debian sets it up with the event MPM."""

    name = "apache-cgi"
    version_command = ("apache2", "-v")

    @classmethod
    def missing(cls) -> str:
        """What isn't installed; empty when it can be started."""
        return super().missing() or ("" if (_MODULES / "mod_cgid.so").exists() else "mod_cgid")

    def command(self) -> list[str]:
        config = self.folder / "apache.conf"
        modules = ("mpm_event", "authz_core", "alias", "cgid")
        load = "".join(f"LoadModule {name}_module {_MODULES}/mod_{name}.so\n" for name in modules)
        user = f"User {_USER}\nGroup {_USER}\n" if os.geteuid() == 0 else ""
        config.write_text(
            f'{load}{user}ServerRoot "{self.folder}"\nServerName localhost\nListen 127.0.0.1:{self.port}\n'
            f'PidFile "{self.folder}/pid"\nScriptSock "{self.folder}/cgisock"\nErrorLog "{self.folder}/error.log"\n'
            f'LogFormat "%h %l %u %t \\"%r\\" %>s %O \\"%{{Referer}}i\\" \\"%{{User-Agent}}i\\"" combined\n'
            f'CustomLog "{self.access_log}" combined\nDocumentRoot "{self.site}"\n'
            "StartServers 2\nMaxKeepAliveRequests 0\nKeepAliveTimeout 65\n"
            + "".join(f'ScriptAlias "{path}/" "{self.scripts}/"\n' for path in ("/cgi-bin", "/warm"))
            + f'<Directory "{self.scripts}">\nAllowOverride None\nOptions +ExecCGI\nRequire all granted\n</Directory>\n'
            "<Directory />\nAllowOverride None\n</Directory>\n"
        )
        return ["apache2", "-D", "FOREGROUND", "-f", str(config)]


_USER = "www-data"
CGI_SERVERS: tuple[type[Server], ...] = (HttpdCgi, HttpdCgiSame, LighttpdCgi, ApacheCgi)
