"""A web server on this machine for the tests of the downloader, which breaks off, forgets and lies as it is told."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """What stands at a path. `breaks` holds after how many bytes the next connections end."""

    content: bytes = b""
    status: int = 200
    etag: str | None = '"one"'
    ranges: bool = True
    minds_if_range: bool = True
    breaks: list[int] = field(default_factory=list)
    leads_to: str | None = None
    told_size: bool = True
    failures: list[int] = field(default_factory=list)  # statuses of the next answers
    hangs: list[int] = field(default_factory=list)  # after how many bytes the next connections send nothing more, until `released`
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """`pages` by path; `requests` are (method, path, Range or None) in the order in which they came."""

    address: str
    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def put(self, path: str, content: bytes, **how: object) -> str:
        self.pages[path] = Page(content, **how)  # type: ignore[arg-type]
        return self.address + path

    def ranges(self, path: str) -> list[str | None]:
        """The Range of every GET of a path."""
        return [asked for method, found, asked in self.requests if (method, found) == ("GET", path)]


@contextmanager
def serving() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

        def answer(self, with_content: bool) -> None:
            asked = self.headers.get("Range")
            server.requests.append((self.command, self.path, asked))
            page = server.pages.get(self.path, Page(b"nothing here", 404, ranges=False))
            if page.failures:
                page = Page(b"later", page.failures.pop(0), ranges=False)
            content, status, first = page.content, page.status, 0
            versions = (page.etag, page.headers.get("Last-Modified"))
            holds = "If-Range" not in self.headers or self.headers["If-Range"] in versions or not page.minds_if_range
            if asked and page.ranges and holds and status == 200:
                first, status = int(asked.removeprefix("bytes=").split("-")[0]), 206
                if first >= len(content):
                    content, status = b"", 416
            self.send_response(302 if page.leads_to else status)
            if page.leads_to:
                self.send_header("Location", page.leads_to)
                content = b""
            if page.etag:
                self.send_header("ETag", page.etag)
            if status == 206:
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            for name, value in page.headers.items():
                self.send_header(name, value)
            content = content[first:]
            if page.told_size:
                self.send_header("Content-Length", str(len(content)))
            if not page.told_size or (page.breaks and with_content):
                self.close_connection = True
            self.end_headers()
            if with_content and page.hangs:
                sent, content = content[: page.hangs[0]], content[page.hangs.pop(0) :]
                self.wfile.write(sent)
                self.wfile.flush()
                server.released.wait(20)
            if with_content:
                self.wfile.write(content[: page.breaks.pop(0)] if page.breaks else content)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:  # a client that hangs up is what some tests are about
            pass

    with Quiet(("127.0.0.1", 0), Handler) as http:
        server = Server(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            http.shutdown()
            thread.join()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
