"""An HTTP server on this machine with injected faults."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FaultyServer:
    """How the files of `root` are served, and what was requested. A fault is used up by one request.

    Attributes:
        root: The folder whose files are served.
        supports_ranges: Whether ``Range`` headers are honored.
        truncations: {file name: bytes after which the connection is closed, one entry a request}.
        status_codes: {file name: status code sent instead of the file, one entry a request}.
        delays: {file name: seconds before the answer, one entry a request}.
        replacements: {file name: content sent instead of the file's}.
        requests: {file name: number of requests}.
        bytes_sent: Bytes of content sent in all.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.supports_ranges, self.bytes_sent = root, True, 0
        self.truncations: dict[str, list[int]] = {}
        self.status_codes: dict[str, list[int]] = {}
        self.delays: dict[str, list[float]] = {}
        self.replacements: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()

    def next_fault(self, faults: dict[str, list], name: str) -> float | None:
        return faults[name].pop(0) if faults.get(name) else None


@contextmanager
def serve_folder(root: Path) -> Iterator[tuple[str, FaultyServer]]:
    """Serves a folder over HTTP; yields the address and the server's faults and counters."""
    state = FaultyServer(root)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rsplit("/", 1)[-1]
            state.requests[name] += 1
            if delay := state.next_fault(state.delays, name):
                time.sleep(delay)
            code = state.next_fault(state.status_codes, name)
            file = state.root / name
            if code or not (file.is_file() or name in state.replacements):
                self.send_error(int(code or 404))
                return
            content = state.replacements.get(name) or file.read_bytes()
            self.send_content(content, state.next_fault(state.truncations, name))

        def send_content(self, content: bytes, truncation: float | None) -> None:
            requested = self.headers.get("Range", "") if state.supports_ranges else ""
            start = int(requested[6:-1]) if requested else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if requested else 200)
            if requested:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start : None if truncation is None else start + int(truncation)]
            state.bytes_sent += len(body)
            try:
                self.wfile.write(body)
            except OSError:
                return  # the client closed the connection

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
