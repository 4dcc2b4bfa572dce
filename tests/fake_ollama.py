"""A local server that speaks Ollama's HTTP API and refuses what the real one refuses; for tests only.

It stores blobs, makes models of them and renders their templates; the words of an answer are given by the test. Where
the real one passes over a field it does not know, this one refuses it, so that a misspelt field cannot hide.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fake_ollama_import as imports
import go_template
from fake_ollama_faults import ERROR, PAGES, Page, hung_up, spoiled

Row = dict[str, Any]
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*(:[A-Za-z0-9_][A-Za-z0-9._-]*)?")
FIELDS: dict[str, tuple[str, ...]] = {
    "version": (),
    "tags": (),
    "ps": (),
    "show": ("model", "verbose"),
    "delete": ("model",),
    "generate": ("model", "keep_alive"),
    "create": (
        "model",
        "files",
        "from",
        "template",
        "system",
        "parameters",
        "messages",
        "license",
        "quantize",
        "stream",
    ),
    "chat": (
        "model",
        "messages",
        "stream",
        "options",
        "keep_alive",
        "truncate",
        "shift",
        "think",
        "_debug_render_only",
    ),
}
METHODS = {"version": "GET", "tags": "GET", "ps": "GET", "delete": "DELETE"}  # the others: POST


@dataclass
class Model:
    """`template` is the one in use: the file's own Jinja where that was preferred to the one sent."""

    file_digest: str
    digest: str
    template: str
    request: Row
    jinja: bool = False
    size: int = 2048
    problem: str = ""
    """Why it cannot be loaded, which the server finds out at the first chat."""


@dataclass
class FakeOllama:
    """`answer` gives the pieces of an answer to the messages; `count` the tokens of a rendered prompt.

    faults maps a path's last word (chat, create, blobs, version …; "render" for a chat that is to be rendered alone),
    with or without the method before it ("HEAD blobs"), to one of: slow, 500, error line, cut, ends early, malformed,
    silent, stall (takes no more of an upload), html, gateway, 407, another program; "show": "swapped" returns another
    template than was sent. Whatever waits is let go when `patience` is set.
    """

    answer: Callable[[list[Row]], list[str]] = lambda messages: ["It ", "depends."]
    count: Callable[[str], int] = lambda text: len(text.split())
    version: str = "0.14.2"
    tells_renderings: bool = True
    """False as in versions before the autumn of 2025, which answer instead."""
    vram_bytes: int = 0
    """What every loaded model holds of the graphics memory."""
    lingers: int = 0
    """How often an unloaded model is still listed among the loaded ones."""
    leaving: dict[str, int] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    loaded: set[str] = field(default_factory=set)
    requests: list[tuple[str, str]] = field(default_factory=list)
    chats: list[Row] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    """Set when an upload or a listener is made to wait."""
    gone: threading.Event = field(default_factory=threading.Event)
    """Set when a client has hung up while it was made to wait."""
    patience: threading.Event = field(default_factory=threading.Event)
    slow_seconds: float = 3.0

    def __enter__(self) -> "FakeOllama":
        handler = type("Handler", (_Handler,), {"ollama": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.patience.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def rendered(self, name: str, messages: list[Row]) -> str:
        """The prompt; the model's own system text goes before a conversation that has none."""
        model = self.models[full(name)]
        told = model.request.get("system")
        if told and (not messages or messages[0]["role"] != "system"):
            messages = [{"role": "system", "content": told}, *messages]
        if model.jinja:
            return imports.render_jinja(model.template, messages)
        rows = [{"Role": m["role"], "Content": m["content"]} for m in messages]
        system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
        return go_template.render(model.template, {"Messages": rows, "System": system})


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

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        self.ollama.requests.append((method, self.path))
        word = [*self.path.split("/"), "", ""][2]
        self.fault = fault = self._chosen_fault(method, word)
        try:
            if fault == "stall" and method == "POST":
                self._stall()
                return
            if fault == "cut" and word == "blobs" and method == "POST":
                self.rfile.read(min(1 << 20, int(self.headers["Content-Length"])))
                self.close_connection = True
                return
            body = self._body()
            if word == "chat" and b'"_debug_render_only"' in body:
                self.fault = fault = self._chosen_fault(method, "render")
            self._answer(method, word, fault, body)
        except _Refusal as refusal:
            self.fault = ""
            text = json.dumps({"error": str(refusal)}) if str(refusal) else ""
            self._whole(refusal.status, text)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _chosen_fault(self, method: str, word: str) -> str:
        faults = self.ollama.faults
        return faults.get(f"{method} {word}") or faults.get(word, "")

    def _answer(self, method: str, word: str, fault: str, body: bytes) -> None:
        if fault in PAGES:
            self._page(PAGES[fault])
            return
        local = ("127.0.0.1", "localhost")
        origin = self.headers.get("Origin", "http://localhost").split("//")[-1].split(":")[0]
        if self.headers["Host"].split(":")[0] not in local or origin not in local:
            raise _Refusal(403, "")
        if fault == "slow":
            self.ollama.patience.wait(self.ollama.slow_seconds)
        if fault == "silent" and word not in ("create", "chat"):
            self._silence()
        if fault == "500":
            raise _Refusal(500, "llama-server process has terminated: error loading model: missing tensor")
        if self.path == "/":
            self._whole(200, "Ollama is running")
        elif re.fullmatch("/api/blobs/[^/]+", self.path) and method in ("HEAD", "POST"):
            self._blob(method, self.path.rsplit("/", 1)[1], body)
        elif self.path != f"/api/{word}" or word not in FIELDS:
            self._page(Page(404, "text/plain", "404 page not found"))
        elif method != METHODS.get(word, "POST"):
            self._page(Page(405, "text/plain", "405 method not allowed"))
        else:
            self._api(word, self._request(word, body), fault)

    def _request(self, word: str, body: bytes) -> Row:
        try:
            request = json.loads(body or b"{}")
        except ValueError as error:
            raise _Refusal(400, str(error)) from error
        if unknown := set(request) - set(FIELDS[word]):
            raise _Refusal(400, f"unknown fields {sorted(unknown)}")
        return request  # type: ignore[no-any-return]

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.close_connection = True
            return b""
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _stall(self) -> None:
        """Take nothing of what is sent until the test lets go; then see whether the client is still there."""
        self.ollama.stalled.set()
        self.close_connection = True
        self.ollama.patience.wait(30)
        n_expected = int(self.headers.get("Content-Length", 0))
        if len(self.rfile.read(n_expected)) < n_expected:
            self.ollama.gone.set()

    def _silence(self) -> None:
        """Say nothing for three seconds, or until the client hangs up, or until the test lets go."""
        self.ollama.stalled.set()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline and not self.ollama.patience.is_set():
            if hung_up(self.connection):
                self.ollama.gone.set()
                raise ConnectionResetError

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
                self._whole(200, json.dumps({"version": ollama.version}))
            case "tags":
                self._models([self._row(name) | {"size": model.size} for name, model in ollama.models.items()])
            case "ps":
                sizes = {"size": 2048, "size_vram": ollama.vram_bytes}
                self._models([self._row(name) | sizes for name in sorted({*ollama.loaded, *ollama.leaving})])
                ollama.leaving = {name: n - 1 for name, n in ollama.leaving.items() if n > 1}
            case "show":
                model = self._model(request)
                template = "{{ .Prompt }}" if fault == "swapped" else model.template
                self._whole(200, json.dumps({"template": template, "modelfile": f"FROM sha256-{model.file_digest}"}))
            case "delete":
                gone = self._model(request).file_digest
                ollama.models.pop(full(request["model"]))
                if not any(model.file_digest == gone for model in ollama.models.values()):
                    ollama.blobs.pop(gone, None)
                ollama.loaded.discard(full(request["model"]))
                self._whole(200, "")
            case "generate":
                self._model(request)
                if request.get("keep_alive") != 0:
                    raise _Refusal(400, "this server unloads only")
                if ollama.lingers and full(request["model"]) in ollama.loaded:
                    ollama.leaving[full(request["model"])] = ollama.lingers
                ollama.loaded.discard(full(request["model"]))
                self._whole(200, json.dumps({"done": True, "done_reason": "unload"}))
            case "create":
                self._create(request, fault)
            case "chat":
                self._chat(request, fault)

    def _row(self, name: str) -> Row:
        return {"name": name, "model": name, "digest": self.ollama.models[name].digest}

    def _models(self, rows: list[Row]) -> None:
        self._whole(200, json.dumps({"models": rows}))

    def _model(self, request: Row) -> Model:
        name = str(request.get("model", ""))
        if full(name) not in self.ollama.models:
            raise _Refusal(404, f"model '{name}' not found")
        return self.ollama.models[full(name)]

    def _create(self, request: Row, fault: str) -> None:
        """What is wrong with the request is refused at once; what is wrong with the file, after the first line."""
        digest, template = self._checked(request)
        rows: list[Row] = [{"status": "parsing GGUF"}]
        try:
            rows += self._made(request, digest, template)
        except imports.NotTaken as error:
            if not request.get("stream", True):
                raise _Refusal(error.status, str(error)) from error
            rows.append({"error": str(error)})
        self._stream(rows if request.get("stream", True) else rows[-1:], fault)

    def _checked(self, request: Row) -> tuple[str, str | None]:
        """(digest of the file, template)"""
        name, files = str(request.get("model", "")), request.get("files")
        if not NAME.fullmatch(name):
            raise _Refusal(400, "invalid model name")
        if not files:
            raise _Refusal(400, "neither 'from' or 'files' was specified")
        file, digest = next(iter(files.items()))
        if file.startswith(("/", "\\")) or ".." in file or ":" in file:
            raise _Refusal(400, "file path must be relative")
        if digest not in self.ollama.blobs:
            raise _Refusal(400, f"blob {digest} not found")
        try:
            go_template.check(request.get("template") or "")
        except go_template.TemplateSyntaxError as error:
            raise _Refusal(400, f"template error: {error}") from error
        return digest, request.get("template")

    def _made(self, request: Row, digest: str, template: str | None) -> list[Row]:
        """The lines that follow the first; NotTaken for a file that is none."""
        content = imports.read(self.ollama.blobs[digest])
        rows: list[Row] = []
        if wanted := request.get("quantize"):
            imports.check_quantize(wanted, content)
            told = f"quantizing F16 model to {wanted.upper()}"
            rows += [{"status": told, "completed": done, "total": 2} for done in (1, 2)]
        rows.append({"status": "verifying conversion"})
        known = any(m.file_digest == digest for m in self.ollama.models.values())
        rows.append({"status": f"{'using existing' if known else 'creating new'} layer {digest}"})
        if template is None and (detected := content.autodetected()):
            rows.append({"status": "using autodetected template chatml"})
            template = detected
        own = content.jinja if template is None else content.preferred_to(template)
        used = own or (imports.CHATML if template is None else template)
        manifest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        size = len(self.ollama.blobs[digest])
        made = Model(digest, manifest, used, request, bool(own), size, content.loading_problem())
        self.ollama.models[full(str(request["model"]))] = made
        return [*rows, {"status": "writing manifest"}, {"status": "success"}]

    def _chat(self, request: Row, fault: str) -> None:
        model = self._model(request)
        name, messages = full(request["model"]), request.get("messages") or []
        options = {**model.request.get("parameters", {}), **(request.get("options") or {})}
        if problem := imports.option_problem(options):
            raise _Refusal(500, problem)
        if model.problem:
            raise _Refusal(
                500, f"llama-server process has terminated: exit status 1: error loading model: {model.problem}"
            )
        rendered = self.ollama.rendered(name, messages)
        if request.get("_debug_render_only") and self.ollama.tells_renderings:
            empty = {"model": name, "message": {"role": "", "content": ""}, "done": False}
            self._whole(200, json.dumps(empty | {"_debug_info": {"rendered_template": rendered}}))
            return
        n_prompt = self._fitting(self.ollama.count(rendered), int(options.get("num_ctx", 4096)), request)
        self.ollama.loaded.add(name)
        self.ollama.leaving.pop(name, None)
        self.ollama.chats.append(request)
        pieces = self.ollama.answer(messages) if messages else []
        most = options.get("num_predict", -1)
        reason = "load" if not messages else "length" if 0 <= most < len(pieces) else "stop"
        pieces = pieces[:most] if reason == "length" else pieces
        said = {"model": name, "created_at": datetime.now().astimezone().isoformat()}
        rows = [said | {"message": {"role": "assistant", "content": p}, "done": False} for p in pieces]
        last = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": reason}
        counts = {"prompt_eval_count": n_prompt, "eval_count": len(pieces)}
        times = dict.fromkeys(("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"), 10**9)
        rows.append(said | last | (counts | times if messages else {}))
        if request.get("stream", True):
            self._stream(rows, fault)
        else:
            self._stream([rows[-1] | {"message": {"role": "assistant", "content": "".join(pieces)}}], fault)

    def _fitting(self, n_prompt: int, n_ctx: int, request: Row) -> int:
        """The tokens that are read: without a word only as many as fit, unless that was forbidden."""
        if n_prompt < n_ctx:
            return n_prompt
        if request.get("truncate", True):
            return n_ctx - 1
        told = f"request ({n_prompt} tokens) exceeds the available context size ({n_ctx} tokens), try increasing it"
        inner = {"code": 400, "message": told, "type": "exceed_context_size_error"}
        raise _Refusal(400, json.dumps({"error": inner}))

    def _stream(self, rows: list[Row], fault: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in spoiled([json.dumps(row) for row in rows], fault, self._silence):
            if line is None:  # the connection is cut
                self.close_connection = True
                return
            data = line.encode() + b"\n"
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _page(self, page: Page) -> None:
        self._whole(page.status, page.text, {"Content-Type": page.kind, **page.headers})

    def _whole(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        sent = text
        if self.fault == "error line" and text:
            text = sent = json.dumps({"error": ERROR})
        elif self.fault in ("malformed", "cut"):
            sent = text[: len(text) // 2]
            text = sent if self.fault == "malformed" else text
        if self.fault == "cut":
            self.close_connection = True
            if not text:
                return
        kind = {"Content-Type": "application/json; charset=utf-8"}
        self.send_response_only(status)
        for name, value in (kind | (headers or {}) | {"Content-Length": str(len(text.encode()))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent.encode())
