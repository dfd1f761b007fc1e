"""A stand-in for Google Cloud Storage's JSON API: objects in memory, with the conditions that a lock needs."""

from __future__ import annotations

import contextlib
import datetime
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Stored = tuple[int, bytes, str]  # generation, data, when it was written


class _Objects(BaseHTTPRequestHandler):
    """As the API's reference has it: objects.get, with alt=media its data, and objects.insert by uploadType=media."""

    stored: dict[str, Stored]
    guard: threading.Lock

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = parse_qs(url.query)
        found = self.stored.get(unquote(url.path.partition("/o/")[2]))
        if found is None or asked.get("generation", [str(found[0])]) != [str(found[0])]:
            self._answer(404, b"{}")
        elif asked.get("alt") == ["media"]:
            self._answer(200, found[1])
        else:
            self._answer(200, self._facts(found))

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        asked = parse_qs(url.query)
        data = self.rfile.read(int(self.headers["Content-Length"]))
        assert url.path.startswith("/upload/storage/v1/b/bucket/o") and asked["uploadType"] == ["media"]
        [name], [wanted] = asked["name"], asked["ifGenerationMatch"]
        with self.guard:
            generation = self.stored.get(name, (0, b"", ""))[0]
            if str(generation) != wanted:
                self._answer(412, b"{}")
                return
            now = datetime.datetime.now(datetime.UTC).isoformat()
            self.stored[name] = (generation + 7, data, now)
            self._answer(200, self._facts(self.stored[name]))

    def _facts(self, found: Stored) -> bytes:
        return json.dumps({"generation": str(found[0]), "updated": found[2]}).encode()

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """The test's output is its own."""


@contextlib.contextmanager
def gcs_server() -> Iterator[str]:
    """Start it; its address."""
    handler = type("Objects", (_Objects,), {"stored": {}, "guard": threading.Lock()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
