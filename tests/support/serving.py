"""A web server on this machine that behaves as it is told."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Manners:
    """How the files of `root` are answered.

    Attributes:
        cut: {name: after how many bytes its connection is cut, once for each entry}.
        codes: {name: what is answered in its place, once for each entry}.
        instead: {name: other content}.
        pause: Seconds before a file is sent, once for each entry.
        ranges: Whether a part may be asked for.
        asked: How often each name was asked for.
        sent: Bytes of content that went out.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.ranges, self.sent = root, True, 0
        self.cut: dict[str, list[int]] = {}
        self.codes: dict[str, list[int]] = {}
        self.pause: dict[str, list[float]] = {}
        self.instead: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()

    def take(self, table: dict[str, list], name: str) -> float | None:
        return table[name].pop(0) if table.get(name) else None


@contextmanager
def serving(root: Path) -> Iterator[tuple[str, Manners]]:
    """The server's address and its manners."""
    manners = Manners(root)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rsplit("/", 1)[-1]
            manners.asked[name] += 1
            if wait := manners.take(manners.pause, name):
                time.sleep(wait)
            code = manners.take(manners.codes, name)
            file = manners.root / name
            if code or not (file.is_file() or name in manners.instead):
                self.send_error(int(code or 404))
                return
            content = manners.instead.get(name) or file.read_bytes()
            self.answer(content, manners.take(manners.cut, name))

        def answer(self, content: bytes, cut: float | None) -> None:
            wanted = self.headers.get("Range", "") if manners.ranges else ""
            start = int(wanted[6:-1]) if wanted else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start : None if cut is None else start + int(cut)]
            manners.sent += len(body)
            try:
                self.wfile.write(body)
            except OSError:
                return  # whoever asked has had enough

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", manners
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
