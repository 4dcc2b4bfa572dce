"""A local server that speaks Ollama's HTTP API and refuses what the real one refuses; for tests only.

It stores blobs, makes models of them and renders their templates; the words of an answer are given by the test.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import go_template

Row = dict[str, Any]
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]*")
WRONG_TYPES = {"temperature": (int, float), "top_p": (int, float), "top_k": (int,), "seed": (int,), "num_ctx": (int,)}


@dataclass
class Model:
    file_digest: str
    digest: str
    template: str
    request: Row


@dataclass
class FakeOllama:
    """`answer` gives the pieces of an answer to the messages; `count` the tokens of a rendered prompt.

    faults maps a path's last word (chat, create, blobs, version) to one of: slow, 500, error line, cut, ends early,
    malformed, silent; "show": "swapped" returns another template than was sent.
    """

    answer: Callable[[list[Row]], list[str]] = lambda messages: ["It ", "depends."]
    count: Callable[[str], int] = lambda text: len(text.split())
    version: str = "0.14.2"
    tells_renderings: bool = True
    """False as in versions before the autumn of 2025, which answer instead."""
    faults: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    loaded: set[str] = field(default_factory=set)
    requests: list[tuple[str, str]] = field(default_factory=list)
    chats: list[Row] = field(default_factory=list)

    def __enter__(self) -> "FakeOllama":
        handler = type("Handler", (_Handler,), {"ollama": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def rendered(self, model: str, messages: list[Row]) -> str:
        rows = [{"Role": m["role"], "Content": m["content"]} for m in messages]
        system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
        return go_template.render(self.models[full(model)].template, {"Messages": rows, "System": system})


def full(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


class _Refusal(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    ollama: FakeOllama
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms between its head and its body

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve("GET")

    def do_HEAD(self) -> None:
        self._serve("HEAD")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        self.ollama.requests.append((method, self.path))
        word = self.path.split("/")[2]
        fault = self.ollama.faults.get(word, "")
        body = self._body()
        try:
            if self.headers["Host"].split(":")[0] not in ("127.0.0.1", "localhost"):
                raise _Refusal(403, "")
            if fault == "slow":
                time.sleep(3)
            if fault == "500":
                raise _Refusal(500, "llama-server process has terminated: error loading model: missing tensor")
            if word == "blobs":
                self._blob(method, self.path.rsplit("/", 1)[1], body)
            else:
                self._api(word, json.loads(body or b"{}"), fault)
        except _Refusal as refusal:
            text = json.dumps({"error": str(refusal)}) if str(refusal) else ""
            self._whole(refusal.status, text)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.close_connection = True
            return b""
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _blob(self, method: str, digest: str, body: bytes) -> None:
        if not DIGEST.fullmatch(digest):
            raise _Refusal(400, "invalid digest format")
        if method == "HEAD":
            self._whole(200 if digest in self.ollama.blobs else 404, "")
            return
        if digest in self.ollama.blobs:
            self._whole(200, "")
            return
        found = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if found != digest:
            raise _Refusal(400, f'digest mismatch, expected "{digest}", got "{found}"')
        self.ollama.blobs[digest] = body
        self._whole(201, "")

    def _api(self, word: str, request: Row, fault: str) -> None:
        ollama = self.ollama
        match word:
            case "version":
                self._whole(200, "<html>" if fault == "malformed" else json.dumps({"version": ollama.version}))
            case "tags":
                rows = [
                    {"name": name, "model": name, "digest": m.digest, "size": 2048} for name, m in ollama.models.items()
                ]
                self._whole(200, json.dumps({"models": rows}))
            case "ps":
                rows = [
                    {"name": n, "model": n, "digest": ollama.models[n].digest, "size": 2048, "size_vram": 0}
                    for n in sorted(ollama.loaded)
                ]
                self._whole(200, json.dumps({"models": rows}))
            case "show":
                model = self._model(request)
                template = "{{ .Prompt }}" if fault == "swapped" else model.template
                self._whole(200, json.dumps({"template": template, "modelfile": f"FROM sha256-{model.file_digest}"}))
            case "delete":
                self._model(request)
                ollama.models.pop(full(request["model"]))
                self._whole(200, "")
            case "generate":
                self._model(request)
                ollama.loaded.discard(full(request["model"]))
                self._whole(200, json.dumps({"done": True, "done_reason": "unload"}))
            case "create":
                self._stream(self._created(request), fault)
            case "chat":
                self._chat(request, fault)
            case _:
                raise _Refusal(404, "404 page not found")

    def _model(self, request: Row) -> Model:
        name = str(request.get("model", ""))
        if full(name) not in self.ollama.models:
            raise _Refusal(404, f"model '{name}' not found")
        return self.ollama.models[full(name)]

    def _created(self, request: Row) -> list[Row]:
        name, files = str(request.get("model", "")), request.get("files")
        if not NAME.fullmatch(name):
            raise _Refusal(400, "invalid model name")
        if not files:
            raise _Refusal(400, "neither 'from' or 'files' was specified")
        file, digest = next(iter(files.items()))
        if file.startswith("/") or ".." in file:
            raise _Refusal(400, "file path must be relative")
        if digest not in self.ollama.blobs:
            raise _Refusal(400, f"blob {digest} not found")
        if self.ollama.blobs[digest][:4] != b"GGUF":
            raise _Refusal(400, "supplied file was not in GGUF format")
        template = request.get("template", "{{ .Prompt }}")
        try:
            go_template.check(template)
        except go_template.TemplateSyntaxError as error:
            raise _Refusal(400, f"template error: {error}") from error
        manifest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        self.ollama.models[full(name)] = Model(digest, manifest, template, request)
        steps = ["parsing GGUF", f"using existing layer {digest}", "writing manifest", "success"]
        return [{"status": step} for step in steps]

    def _chat(self, request: Row, fault: str) -> None:
        self._model(request)
        name, messages = full(request["model"]), request.get("messages") or []
        for option, value in (request.get("options") or {}).items():
            if option in WRONG_TYPES and not isinstance(value, WRONG_TYPES[option]):
                raise _Refusal(500, f'option "{option}" must be of type float32')
        rendered = self.ollama.rendered(name, messages)
        if request.get("_debug_render_only") and self.ollama.tells_renderings:
            empty = {"model": name, "message": {"role": "", "content": ""}, "done": False}
            self._whole(200, json.dumps(empty | {"_debug_info": {"rendered_template": rendered}}))
            return
        self.ollama.loaded.add(name)
        self.ollama.chats.append(request)
        pieces = self.ollama.answer(messages)
        rows = [{"model": name, "message": {"role": "assistant", "content": p}, "done": False} for p in pieces]
        last = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
        counts = {"prompt_eval_count": self.ollama.count(rendered), "eval_count": len(pieces), "eval_duration": 10**9}
        self._stream([*rows, {"model": name, **last, **counts}], fault)

    def _stream(self, rows: list[Row], fault: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in _spoiled([json.dumps(row) for row in rows], fault):
            if line is None:  # the connection is cut
                self.close_connection = True
                return
            data = line.encode() + b"\n"
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _whole(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())


def _spoiled(lines: list[str], fault: str) -> Iterator[str | None]:
    yield lines[0]
    if fault == "silent":
        time.sleep(3)
    spoilt: dict[str, str | None] = {
        "error line": json.dumps({"error": "an error was encountered while running the model"}),
        "malformed": '{"model": "aegis", "mess',
        "cut": None,
    }
    if fault in spoilt:
        yield spoilt[fault]
    if fault in spoilt or fault == "ends early":
        return
    yield from lines[1:]
