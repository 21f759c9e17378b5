"""Loopback servers that speak OpenAI's chat completions and Anthropic's messages, and keep books of their own.

What a server does with a request is the next step of its script, and `answers` when that is used up. It imports nothing of
kitaru: its books are what the store's are compared with.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass
class Asked:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: Body

    @property
    def prompt(self) -> str:
        """The last message's text."""
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else "".join(part["text"] for part in content)


@dataclass
class Served:
    """What the server charges for a response; tokens by the provider's own words. `cost` is in millionths of a dollar."""

    id: str
    prompt: str
    input_tokens: int
    output_tokens: int
    cost: int = 0


@dataclass
class Reply:
    """A response to write."""

    status: int = 200
    body: Body | str | bytes = ""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    seconds: float = 0
    cut: int | None = None
    """The connection is reset after so many bytes of the body."""


Step = Callable[["Server", Asked], Reply]


class Server(ThreadingHTTPServer):
    """One provider. `books` has a line for each response that was charged, written before its first byte is sent."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answers: Step) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.model = ""
        self.script: list[Step] = []
        self.asked: list[Asked] = []
        self.books: list[Served] = []
        self.guard = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def step(self, asked: Asked) -> Step:
        with self.guard:
            self.asked.append(asked)
            return self.script.pop(0) if self.script else self.answers

    def charge(self, asked: Asked, input_tokens: int, output_tokens: int, cost: int = 0) -> Served:
        with self.guard:
            served = Served(f"resp-{len(self.books) + 1}", asked.prompt, input_tokens, output_tokens, cost)
            self.books.append(served)
            return served

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.path, headers, json.loads(raw))
        reply = self.server.step(asked)(self.server, asked)
        time.sleep(reply.seconds)
        body = reply.body if isinstance(reply.body, bytes) else (
            reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        ).encode()  # fmt: skip
        self.send_response(reply.status)
        for name, value in {"content-type": "application/json", "content-length": str(len(body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if reply.cut is None else body[: reply.cut])
        self.wfile.flush()
        if reply.cut is not None:
            linger = struct.pack("ii", 1, 0)  # the client gets a reset, not an end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        """Nothing on stderr."""


@contextmanager
def running(answers: Step) -> Iterator[Server]:
    """A server on a port of its own."""
    server = Server(answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


# --- what both do -----------------------------------------------------------------------------------------------------


def refuses(status: int, message: str = "no", code: str | int | None = None, **headers: str) -> Step:
    """An error, with further headers (`retry_after="2"`)."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda server, asked: Reply(status, {"error": {"message": message, "type": "error", "code": code}}, named)


def echoes_credentials(status: int) -> Step:
    """An error that repeats the key that came with the request, in every place it can."""

    def step(server: Server, asked: Asked) -> Reply:
        key = asked.headers.get("x-api-key") or asked.headers.get("authorization", "").removeprefix("Bearer ")
        text = f"Incorrect API key provided: {key}."
        return Reply(
            status, {"id": key, "model": key, "usage": {key: key}, "error": {"message": text, "code": key}}, {"x-key": key}
        )

    return step


def answers_with_credentials(before: str = "the key is ") -> Step:
    """An answer in whose text the key stands that came with the request."""

    def step(server: Server, asked: Asked) -> Reply:
        key = asked.headers.get("x-api-key") or asked.headers.get("authorization", "").removeprefix("Bearer ")
        said = f"{before}{key}"
        return answers(json.dumps(said) if asked.body.get("tools") else said)(server, asked)

    return step


def says(text: str | bytes, status: int = 200) -> Step:
    """A body that is none of the format."""
    return lambda server, asked: Reply(status, text)


def breaks(step: Step, after: int = 20) -> Step:
    """The same, but the connection is gone after some bytes of the body."""

    def broken(server: Server, asked: Asked) -> Reply:
        reply = step(server, asked)
        reply.cut = after
        return reply

    return broken


def answers(text: str = "four", **more: Any) -> Step:
    """An answer in whichever format the request is in."""
    return lambda server, asked: (completes if "chat/completions" in asked.path else replies)(text, **more)(server, asked)


def slowly(step: Step, seconds: float) -> Step:
    """The same, late."""

    def late(server: Server, asked: Asked) -> Reply:
        reply = step(server, asked)
        reply.seconds = seconds
        return reply

    return late


# --- OpenAI -----------------------------------------------------------------------------------------------------------


def completes(
    text: str = "four",
    *,
    prompt: int = 11,
    completion: int = 7,
    cached: int | None = None,
    reasoning: int | None = None,
    cost: int | None = None,
    finish: str = "stop",
    usage: Body | None = None,
    calls_tool: bool | None = None,
) -> Step:
    """A chat completion; `text` becomes the arguments of the tool where the request has one. `cost` is in microdollars."""

    def step(server: Server, asked: Asked) -> Reply:
        served = server.charge(asked, prompt, completion, cost or 0)
        said: Body = {"role": "assistant", "content": text}
        has_tools = bool(asked.body.get("tools")) if calls_tool is None else calls_tool
        if has_tools:
            function = {"name": asked.body["tools"][0]["function"]["name"], "arguments": text}
            said = {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": function}],
            }
        counted: Body = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        if cached is not None:
            counted["prompt_tokens_details"] = {"cached_tokens": cached}
        if reasoning is not None:
            counted["completion_tokens_details"] = {"reasoning_tokens": reasoning}
        if cost is not None:
            counted["cost"] = cost / 1_000_000
        more = {"provider": "OpenAI"} if asked.path.startswith("/api/") else {}  # OpenRouter says who it asked
        return Reply(
            body={
                "id": served.id, "object": "chat.completion", "created": 1_700_000_000,
                "model": f"{asked.body['model']}-2026",
                "choices": [{"index": 0, "message": said, "finish_reason": "tool_calls" if has_tools else finish}],
                "usage": counted if usage is None else usage,
                **more,
            }
        )  # fmt: skip

    return step


# --- Anthropic --------------------------------------------------------------------------------------------------------


def replies(
    text: str = "four",
    *,
    fresh: int = 11,
    read: int = 0,
    written: int = 0,
    output: int = 7,
    thinking: int | None = None,
    stop: str = "end_turn",
    blocks: list[Body] | None = None,
) -> Step:
    """A message; `text` becomes the input of the tool where the request has one. The books count what the cache did, too."""

    def step(server: Server, asked: Asked) -> Reply:
        served = server.charge(asked, fresh + read + written, output)
        has_tools = bool(asked.body.get("tools"))
        content: list[Body] = [{"type": "text", "text": text}]
        if has_tools:
            content = [{"type": "tool_use", "id": "t1", "name": asked.body["tools"][0]["name"], "input": json.loads(text)}]
        counted: Body = {
            "input_tokens": fresh, "output_tokens": output, "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
        }  # fmt: skip
        if thinking is not None:
            counted["output_tokens_details"] = {"thinking_tokens": thinking}
        return Reply(
            body={
                "id": served.id, "type": "message", "role": "assistant", "model": f"{asked.body['model']}-2026",
                "content": content if blocks is None else blocks, "stop_reason": "tool_use" if has_tools else stop,
                "stop_sequence": None, "usage": counted,
            }
        )  # fmt: skip

    return step
