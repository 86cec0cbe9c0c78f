"""Programs that others wrote for http.server, unchanged, by `httpd run` and as mounts, each with a client of its kind.

As root, workers are another user, who may not be able to read the library: such tests are skipped, and run as an
ordinary user.
"""

from __future__ import annotations

import re
import xmlrpc.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import httpd.server
from live.daemon import Daemon
from live.handlers.talk import Talk
from live.scripts.running import READ_FROM_TERMINAL, Script, needs, running, why_unreadable

_CHATTER = (
    r"^ \* |WARNING: This is a development server|Press CTRL\+C to quit|Use a production WSGI server",  # werkzeug
    r"^\[\d\d/\w{3}/\d{4} \d\d:\d\d:\d\d\] ",  # Django's log of requests
)


@pytest.fixture
def script(daemon: Daemon) -> Iterator[Script]:
    daemon.expect(READ_FROM_TERMINAL, *_CHATTER)
    with running(daemon) as made:
        yield made


def stop(script: Script) -> None:
    """An orderly end, in good time, without a traceback."""
    script.daemon.signal("TERM")
    assert script.daemon.wait() == 0
    assert script.daemon.stderr is not None
    assert not script.daemon.stderr.find("Traceback|cut off")


# XML-RPC


_XMLRPC = """
    import sys
    from xmlrpc.server import KIND

    with KIND(("127.0.0.1", 0), allow_none=True) as server:
        server.register_introspection_functions()
        server.register_multicall_functions()
        server.register_function(pow)

        @server.register_function(name="add")
        def adder(x, y):
            '''The sum of two numbers.'''
            return x + y

        class Service:
            def mul(self, x, y):
                return x * y
            def fail(self):
                raise ValueError("as expected")

        server.register_instance(Service())
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("interrupted")
            sys.exit(0)
"""


@needs("xmlrpc.server")
@pytest.mark.parametrize("kind", ["SimpleXMLRPCServer", "DocXMLRPCServer"])
def test_xmlrpc(script: Script, kind: str) -> None:
    script.write("rpc.py", _XMLRPC.replace("KIND", kind))
    daemon = script.start("rpc.py")
    with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{daemon.port}/RPC2", allow_none=True) as proxy:
        assert proxy.pow(2, 10) == 1024
        assert [proxy.add(number, 1) for number in range(20)] == list(range(1, 21))
        assert proxy.mul(6, 7) == 42
        assert "add" in proxy.system.listMethods()  # type: ignore[operator,union-attr]
        assert proxy.system.methodHelp("add") == "The sum of two numbers."
        calls = xmlrpc.client.MultiCall(proxy)
        calls.add(1, 2)
        calls.mul(3, 4)
        assert tuple(calls()) == (3, 12)
        with pytest.raises(xmlrpc.client.Fault, match="as expected"):
            proxy.fail()
        large = "x" * 200_000
        assert proxy.add(large, "y") == large + "y"
    if kind == "DocXMLRPCServer":
        assert b"The&nbsp;sum&nbsp;of&nbsp;two&nbsp;numbers." in script.get("/").body
    else:
        assert script.get("/").status == 501
    stop(script)
    assert daemon.stdout is not None
    daemon.stdout.wait("interrupted")


# WSGI


_APPLICATION = """
    from flask import Flask, Response, request, stream_with_context

    app = Flask(__name__)

    @app.get("/")
    def index():
        return {"path": request.path, "query": request.args.to_dict(), "agent": request.headers.get("User-Agent")}

    @app.post("/form")
    def form():
        return {"name": request.form["name"], "size": len(request.files["file"].read())}

    @app.get("/stream")
    def stream():
        return Response(stream_with_context(f"line {number}\\n" for number in range(1000)), mimetype="text/plain")

    @app.get("/fail")
    def fail():
        raise LookupError("as expected")
"""


def multipart(field: str, file_name: str, data: bytes, **fields: str) -> tuple[bytes, str]:
    """A form's body, and its Content-Type."""
    mark = b"----------------------------123456789"
    parts = [b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (mark, key.encode(), value.encode())
             for key, value in fields.items()]  # fmt: skip
    parts.append(b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n'
                 b"Content-Type: application/octet-stream\r\n\r\n%b\r\n--%b--\r\n"
                 % (mark, field.encode(), file_name.encode(), data, mark))  # fmt: skip
    return b"".join(parts), f"multipart/form-data; boundary={mark.decode()}"


def use_application(script: Script) -> None:
    """What a Flask application answers, whatever serves it."""
    found = script.json("/?a=1&b=zwei")
    assert (found["path"], found["query"]) == ("/", {"a": "1", "b": "zwei"})
    with Talk(script.daemon) as client:
        body, kind = multipart("file", "x.bin", bytes(range(256)) * 800, name="the name")
        answer = client.ask("/form", f"Content-Type: {kind}", method="POST", body=body)
        assert (answer.status, b"the name" in answer.body, b"204800" in answer.body) == (200, True, True)
    lines = b"".join(b"line %d\n" % number for number in range(1000))
    for _ in range(15):  # the end must not overtake what is still on its way
        assert script.get("/stream").body == lines
    assert script.get("/nowhere").status == 404
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda number: script.get(f"/?n={number}").status, range(40))) == {200}


def use_failure(script: Script) -> None:
    script.daemon.expect("Exception on /fail", "Traceback", "^  ", "LookupError: as expected", r"^\s*\^*$")
    assert script.get("/fail").status == 500


@needs("wsgiref.simple_server")
def test_wsgiref(script: Script) -> None:
    script.write("demo.py", """
        from wsgiref.simple_server import make_server, demo_app
        with make_server("127.0.0.1", 0, demo_app) as httpd:
            print("Serving HTTP on port", httpd.server_port)
            httpd.serve_forever()
        """)  # fmt: skip
    daemon = script.start("demo.py")
    found = script.get("/a%20b?x=1")
    assert found.status == 200
    text = found.body.decode()
    assert text.startswith("Hello world!")
    for line in ("PATH_INFO = '/a b'", "QUERY_STRING = 'x=1'", f"SERVER_PORT = '{daemon.port}'",
                 "REQUEST_METHOD = 'GET'", "REMOTE_ADDR = '127.0.0.1'"):  # fmt: skip
        assert line in text
    stop(script)


@needs("wsgiref.simple_server")
@needs("flask")
def test_flask_by_wsgiref(script: Script) -> None:
    script.write("web.py", _APPLICATION + """
    from wsgiref.simple_server import make_server
    make_server("127.0.0.1", 0, app).serve_forever()
    """)  # fmt: skip
    script.start("web.py")
    use_application(script)
    use_failure(script)
    script.daemon.signal("TERM")
    assert script.daemon.wait() == 0


@needs("flask")
@pytest.mark.parametrize("run", [
    'app.run("127.0.0.1", 0)', "run_simple('127.0.0.1', 0, app)", "run_simple('127.0.0.1', 0, app, threaded=True)",
])  # fmt: skip
def test_flask_by_werkzeug(script: Script, run: str) -> None:
    script.write("web.py", _APPLICATION + f"""
    from werkzeug.serving import run_simple
    if __name__ == "__main__":
        {run}
    """)  # fmt: skip
    script.start("web.py")
    use_application(script)
    use_failure(script)
    script.daemon.signal("TERM")
    assert script.daemon.wait() == 0


# Django


_DJANGO = {
    "manage.py": """
        import os, sys

        def main():
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site1.settings")
            from django.core.management import execute_from_command_line
            execute_from_command_line(sys.argv)

        if __name__ == "__main__":
            main()
        """,
    "site1/__init__.py": "",
    "site1/settings.py": """
        SECRET_KEY = "of no use"
        DEBUG = False
        ALLOWED_HOSTS = ["*"]
        ROOT_URLCONF = "site1.urls"
        WSGI_APPLICATION = "site1.wsgi.application"
        MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
        USE_TZ = True
        """,
    "site1/wsgi.py": """
        from django.core.wsgi import get_wsgi_application
        application = get_wsgi_application()
        """,
    "site1/urls.py": """
        import threading
        from django.http import JsonResponse, StreamingHttpResponse
        from django.urls import path
        from django.views.decorators.csrf import csrf_exempt

        def index(request):
            return JsonResponse({"path": request.path, "query": request.GET.dict(), "secure": request.is_secure()})

        @csrf_exempt
        def form(request):
            return JsonResponse({"name": request.POST["name"], "size": request.FILES["file"].size})

        def stream(request):
            return StreamingHttpResponse((f"line {number}\\n" for number in range(1000)), content_type="text/plain")

        urlpatterns = [path("", index), path("form", form), path("stream", stream)]
        """,
}


@needs("django.core.servers.basehttp")
@pytest.mark.parametrize("options", [["--noreload", "--nothreading"], ["--noreload"]])
def test_django(script: Script, options: list[str]) -> None:
    for name, text in _DJANGO.items():
        script.write(name, text)
    (script.folder / "site1").chmod(0o755)
    script.daemon.expect("^Not Found: /nowhere")
    daemon = script.start("manage.py", "runserver", *options, "127.0.0.1:0", environ={"PYTHONWARNINGS": "ignore"})
    use_application(script)
    assert script.get("/", "HEAD").status == 200
    assert daemon.stdout is not None
    assert daemon.stdout.find("Starting development server at")
    daemon.signal("TERM")
    assert daemon.wait() == 0


# Files


_AS_MODULE = "import runpy\nrunpy.run_module({!r}, run_name='__main__', alter_sys=True)\n"  # python -m


@needs("uploadserver")
def test_uploadserver(script: Script) -> None:
    (script.folder / "files").mkdir()
    (script.folder / "files").chmod(0o777)
    script.write("upload.py", _AS_MODULE.format("uploadserver"))
    daemon = script.start("upload.py", "0", "--bind", "127.0.0.1", "--directory", "files",
                          environ={"PYTHONWARNINGS": "ignore"})  # fmt: skip
    data = bytes(range(256)) * 1000
    body, kind = multipart("files", "sent.bin", data)
    with Talk(daemon) as client:
        assert client.ask("/upload", f"Content-Type: {kind}", method="POST", body=body).status == 204
    assert (script.folder / "files/sent.bin").read_bytes() == data
    assert script.get("/sent.bin").body == data
    listing = script.get("/")
    assert b"sent.bin" in listing.body
    assert b"uploadserver" in listing.body  # what it adds to the list, with the length put right
    assert int(listing.headers["Content-Length"]) == len(listing.body)
    assert b"<form" in script.get("/upload").body
    stop(script)


@needs("RangeHTTPServer")
def test_range_http_server(script: Script) -> None:
    script.write("data.txt", "0123456789")
    script.write("ranges.py", _AS_MODULE.format("RangeHTTPServer"))
    daemon = script.start("ranges.py", "0", "--bind", "127.0.0.1",
                          environ={"PYTHONWARNINGS": "ignore"})  # fmt: skip
    use_ranges(daemon, "/data.txt")
    stop(script)


def use_ranges(daemon: Daemon, target: str) -> None:
    with Talk(daemon) as client:
        answer = client.ask(target, "Range: bytes=2-5", "Connection: close")
        assert (answer.status, answer.body, answer["Content-Range"]) == (206, b"2345", "bytes 2-5/10")
    with Talk(daemon) as client:
        assert client.ask(target, "Range: bytes=4-", "Connection: close").body == b"456789"
    with Talk(daemon) as client:
        answer = client.ask(target)
        assert (answer.status, answer.body) == (200, b"0123456789")
        assert set(answer.values("Accept-Ranges")) == {"bytes"}  # its own, and that of the class below it
    with Talk(daemon) as client:
        assert client.ask(target, "Range: bytes=20-30").status == 416


_ITSELF = {
    "test": """
        from http.server import test, SimpleHTTPRequestHandler
        test(SimpleHTTPRequestHandler, port=0, bind="127.0.0.1")
        """,
    "test, HTTP/1.1": """
        import http.server
        http.server.test(HandlerClass=http.server.SimpleHTTPRequestHandler, port=0, bind="127.0.0.1",
                         protocol="HTTP/1.1")
        """,
    "python -m": "import sys\nsys.argv[1:] = ['0', '--bind', '127.0.0.1']\n" + _AS_MODULE.format("http.server"),
}


@pytest.mark.parametrize("how", _ITSELF)
def test_http_server_itself(script: Script, how: str) -> None:
    unreadable = why_unreadable(Path(httpd.server.__file__).with_name("__main__.py"))
    if how == "python -m" and unreadable:
        pytest.skip(f"its file is read when workers have given up root: {unreadable}")
    script.write("index.html", "<p>start")
    script.write("serve.py", _ITSELF[how])
    daemon = script.start("serve.py")
    assert script.get("/").body == b"<p>start"
    assert script.get("/nowhere").status == 404
    assert script.get("/", "HEAD").headers["Content-Length"] == "8"
    assert daemon.stdout is not None
    daemon.stdout.wait(rf"^Serving HTTP on 127\.0\.0\.1 port {daemon.port} \(http://127\.0\.0\.1:{daemon.port}/\)")
    stop(script)


# Others


@needs("pydoc")
def test_pydoc(script: Script) -> None:
    """It polls its listening socket in a thread, and the main thread waits for it."""
    script.write("documentation.py", """
        import pydoc, time
        server = pydoc._start_server(pydoc._url_handler, "127.0.0.1", 0)
        try:
            while not server.error and server.serving:
                time.sleep(0.1)
        finally:
            server.stop()
        """)  # fmt: skip
    daemon = script.start("documentation.py", environ={"PYTHONWARNINGS": "ignore"})
    assert b"Index of Modules" in script.get("/").body
    assert b"OrderedDict" in script.get("/collections.html").body
    assert script.get("/json.html").status == 200
    daemon.signal("TERM")
    assert daemon.wait() == 0


@needs("prometheus_client")
def test_prometheus(script: Script) -> None:
    """Metrics beside the server whose metrics they are."""
    script.write("metrics.py", """
        from http.server import HTTPServer
        from prometheus_client import Counter, start_http_server
        from says import Says

        requests = Counter("my_requests", "Requests.", ["path"])

        class Handler(Says):
            def answer(self):
                requests.labels(self.path).inc()
                return {}

        main = HTTPServer(("127.0.0.1", 0), Handler)
        start_http_server(0, "127.0.0.1")
        main.serve_forever()
        """)  # fmt: skip
    script.start("metrics.py", environ={"PYTHONWARNINGS": "ignore"})
    main, metrics = script.ports()
    for _ in range(3):
        script.get("/counted", port=main)
    text = script.get("/metrics", port=metrics).body.decode()
    assert re.search(r'^my_requests_total\{path="/counted"\} 3\.0$', text, re.MULTILINE)
    stop(script)


# As mounts


def mount(daemon: Daemon, text: str, **modules: str) -> None:
    for name, code in modules.items():
        daemon.place.write(f"app/{name}.py", code.encode()).parent.chmod(0o755)
    daemon.configure(f"[[vhost]]\n{text}", "workers = 1")
    daemon.start(environ={"PYTHONWARNINGS": "ignore"})


@needs("RangeHTTPServer")
def test_a_mount_of_range_http_server(daemon: Daemon) -> None:
    folder = daemon.place.write("files/data.txt", b"0123456789").parent
    mount(daemon, f"""
        [[vhost.handler]]
        path = "/"
        class = "RangeHTTPServer:RangeRequestHandler"
        options = {{ directory = "{folder}" }}
        """)  # fmt: skip
    use_ranges(daemon, "/data.txt")


@needs("prometheus_client")
def test_a_mount_of_prometheus(daemon: Daemon) -> None:
    mount(daemon, """
        [[vhost.handler]]
        path = "/metrics"
        class = "prometheus_client:MetricsHandler"
        """)  # fmt: skip
    with Talk(daemon) as client:
        answer = client.ask("/metrics")
        assert (answer.status, b"python_info" in answer.body) == (200, True)


@needs("xmlrpc.server")
def test_a_mount_of_xmlrpc(daemon: Daemon) -> None:
    """The dispatcher is the server's: a class of servers brings its functions."""
    mount(daemon, """
        [[vhost.handler]]
        path = "/RPC2"
        class = "rpc:SimpleXMLRPCRequestHandler"
        server = "rpc:Server"
        pythonpath = ["app"]
        """, rpc="from xmlrpc.server import *\n"
                 "class Server(SimpleXMLRPCServer):\n"
                 "    def __init__(self, *arguments):\n"
                 "        super().__init__(*arguments)\n"
                 "        self.register_function(pow)\n")  # fmt: skip
    with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{daemon.port}/RPC2") as proxy:
        assert [proxy.pow(2, number) for number in range(5)] == [1, 2, 4, 8, 16]
