"""An OpenAI-compatible endpoint on this machine that writes little problems, for those who show the right key."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint(ThreadingHTTPServer):
    """`asked` holds the Authorization headers that came; `key` is the one that is let in, None lets all in."""

    daemon_threads = True

    def __init__(self, key: str | None) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.key = key
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Answers(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        shown = self.headers.get("Authorization", "")
        self.server.asked.append(shown)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.key is not None and shown != f"Bearer {self.server.key}":
            self.answer(401, {"error": {"message": f"Incorrect API key provided: {shown}"}})  # some echo it
            return
        text = body["messages"][-1]["content"]
        asked = re.search(r"Problem: Ada has (\d+) red and (\d+) blue", text)
        if "step by step" in text and asked:
            first, second = map(int, asked.groups())
            said = f"{first} + {second} = {first + second}\n#### {first + second}"
        elif "Here is a draft" in text:
            said = "It is sound."
        else:
            seed = int(body["seed"])
            said = f"Problem: Ada has {seed % 89 + 2} red and {seed // 89 % 97 + 2} blue marbles. How many are there?"
        choice = {"message": {"content": said}, "finish_reason": "stop"}
        self.answer(200, {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 9}})

    def answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments: Any) -> None:
        pass
