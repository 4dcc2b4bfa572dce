"""A client of Ollama's HTTP API: blobs, create, chat, what is there, what is loaded. Every refusal is a UserError."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from ..cancel import CancelToken
from ..failures import UserError
from .ollama_address import address, is_loopback
from .ollama_line import Line, heard

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
SILENCE_SECONDS = 600.0
STALL_SECONDS = 120.0
UNLOAD_SECONDS = 10.0
_LOOK_EVERY_SECONDS = 0.2
BLOCK_BYTES = 1 << 20
TELLING_PARTS = 200
"""Progress on a file is told this many times at most: every step of it becomes a line of the journal."""

Row = dict[str, Any]
Progressed = Callable[[str, int, int], None]
"""(what is being done, bytes done, bytes in all)"""


@dataclass(frozen=True)
class InstalledModel:
    """A model that the server has on its disk; `size_bytes` counts layers that other models share as well."""

    name: str
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class LoadedModel:
    """A model in the server's memory; `digest` is that of the model, `size_bytes` what it takes."""

    name: str
    digest: str
    size_bytes: int
    vram_bytes: int


class OllamaClient:
    """A connection to the Ollama at `address()`, for use in a `with` block or until close()."""

    def __init__(self, base: str | None = None) -> None:
        self.base = base or address()
        self._http = self._connection(httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def has_blob(self, digest: str) -> bool:
        """Whether the server holds a file of this digest ("sha256:…")."""
        return self._send("HEAD", f"/api/blobs/{digest}", accept=(200, 404)).status_code == 200

    def upload(self, path: Path, digest: str, cancel: CancelToken, on_progress: Progressed) -> None:
        """Put a file of this digest on the server, unless it is there already; the server verifies the digest.

        Cancelled at once if the user stops it, also while the server takes no data.
        """
        if self.has_blob(digest):
            return
        size = path.stat().st_size

        def talk(line: Line) -> None:
            def content() -> Iterator[bytes]:
                for done, block in _blocks(path):
                    cancel.wait_while_paused()
                    if line.hung_up.is_set():
                        return
                    yield block
                    line.say(done)

            # An early end of the content is no file of that length: the request breaks instead of looking complete.
            self._posted(line, f"/api/blobs/{digest}", content=content(), headers={"Content-Length": str(size)})

        tell = _sparing("upload", size, on_progress)
        for done in self._heard(talk, lambda: cancel.cancelled):
            tell(done)
        cancel.check()

    def create(self, request: Row, cancel: CancelToken, on_status: Callable[[Row], None]) -> None:
        """Make a model; `on_status` hears every line (status, completed, total). UserError on any error line."""
        last: Row = {}
        for row in self._lines("/api/create", request, lambda: cancel.cancelled):
            on_status(row)
            last = row
        cancel.check()
        if last.get("status") != "success":
            raise UserError(
                "The connection to Ollama at {address} ended before the model was made.",
                "See whether Ollama still runs and try again; chat.backend embedded works without it.",
                address=self.base,
            )

    def chat(self, request: Row, cancelled: Callable[[], bool]) -> Iterator[Row]:
        """The lines of an answer, the last of them with done true; ends early when `cancelled` says so."""
        for row in self._lines("/api/chat", request, cancelled):
            if not isinstance(row.get("message") or {}, dict):
                raise self._unreadable(json.dumps(row, ensure_ascii=False))
            yield row

    def show(self, model: str) -> Row | None:
        """What the server tells about a model (template, parameters, modelfile …), or None if it has none."""
        answer = self._send("POST", "/api/show", json={"model": model}, accept=(200, 404))
        return None if answer.status_code == 404 else self._json(answer)

    def models(self) -> list[InstalledModel]:
        """The models on the server's disk."""
        rows = self._rows("/api/tags")
        return [InstalledModel(row["name"], row["digest"], whole(row.get("size"))) for row in rows]

    def model_digest(self, model: str) -> str:
        """The digest of the model of that name, empty if there is none."""
        return next((found.digest for found in self.models() if full_name(found.name) == full_name(model)), "")

    def loaded(self) -> list[LoadedModel]:
        """The models in the server's memory now."""
        rows = self._rows("/api/ps")
        return [LoadedModel(r["name"], r["digest"], whole(r.get("size")), whole(r.get("size_vram"))) for r in rows]

    def is_loaded(self, model: str, digest: str) -> LoadedModel | None:
        """The loaded model of this very name and digest."""
        name = full_name(model)
        return next((m for m in self.loaded() if full_name(m.name) == name and m.digest == digest), None)

    def unload(self, model: str) -> None:
        """Take a model out of the server's memory; nothing happens if it does not know the model.

        Returns when the server no longer lists it as loaded: it says yes at once, but lets go a while later. UserError
        if it still holds the model after UNLOAD_SECONDS, as it does while it answers somebody.
        """
        self._send("POST", "/api/generate", json={"model": model, "keep_alive": 0}, accept=(200, 404))
        deadline = time.monotonic() + UNLOAD_SECONDS
        while any(full_name(found.name) == full_name(model) for found in self.loaded()):
            if time.monotonic() > deadline:
                raise UserError(
                    "Ollama was asked to let go of {model} but still holds it.",
                    "Wait until it has answered whoever is using it, then try again.",
                    model=model,
                )
            time.sleep(_LOOK_EVERY_SECONDS)

    def delete(self, model: str) -> None:
        """Remove a model from the server; nothing happens if it is not there."""
        self._send("DELETE", "/api/delete", json={"model": model}, accept=(200, 404))

    def _connection(self, timeout: httpx.Timeout) -> httpx.Client:
        encrypted = self.base.startswith("https:")  # reading the certificates takes longer than a small request
        return httpx.Client(base_url=self.base, timeout=timeout, verify=encrypted, trust_env=not is_loopback(self.base))

    def _send(self, method: str, path: str, accept: tuple[int, ...] = (200, 201), **content: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **content)
        except httpx.HTTPError as error:
            raise self._broken(_reason(error)) from error
        if answer.status_code not in accept:
            raise self._refused(answer.status_code, answer.text)
        return answer

    def _json(self, answer: httpx.Response) -> Row:
        try:
            row = answer.json()
        except ValueError as error:
            raise self._unreadable(answer.text, answer.status_code) from error
        if not isinstance(row, dict):
            raise self._unreadable(answer.text, answer.status_code)
        if "error" in row:
            raise self._refused(answer.status_code, answer.text)
        return row

    def _rows(self, path: str) -> list[Row]:
        """The rows of a list of models, each with its name and digest."""
        answer = self._send("GET", path)
        rows = self._json(answer).get("models") or []
        if not isinstance(rows, list) or not all(_names_a_model(row) for row in rows):
            raise self._unreadable(answer.text)
        return rows

    def _heard(self, talk: Callable[[Line], None], cancelled: Callable[[], bool]) -> Iterator[Any]:
        try:
            yield from heard(talk, cancelled)
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise self._broken(_reason(error)) from error

    def _lines(self, path: str, request: Row, cancelled: Callable[[], bool]) -> Iterator[Row]:
        """Lines of JSON as they arrive; a line with an error, a status of 400 or more, a broken line: UserError."""
        return self._heard(lambda line: self._posted(line, path, json=request), cancelled)

    def _posted(self, line: Line, path: str, **content: Any) -> None:
        """Send a request over a connection of its own and say every line of the answer."""
        timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, write=STALL_SECONDS)
        with (
            self._connection(timeout) as http,
            http.stream("POST", path, extensions={"trace": line.trace}, **content) as answer,
        ):
            if answer.status_code >= 400:
                raise self._refused(answer.status_code, answer.read().decode("utf-8", "replace"))
            for text in answer.iter_lines():
                if text.strip():
                    line.say(self._parsed(text))

    def _parsed(self, line: str) -> Row:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise self._unreadable(line) from error
        if not isinstance(row, dict):
            raise self._unreadable(line)
        if "error" in row:
            raise self._refused(200, line)
        return row

    def _refused(self, status: int, body: str) -> UserError:
        if _is_page(body):
            return UserError(
                "A web page came in place of Ollama's answer (status {status}).",
                "See whether a proxy stands between AEGIS and Ollama, or another program has its address.",
                status=status,
            )
        problem = _error_in(body) or f"status {status}"
        return UserError(
            "Ollama refuses: {problem}.",
            "See whether Ollama is up to date; chat.backend embedded works without it.",
            problem=problem.rstrip("."),
        )

    def _unreadable(self, text: str, status: int = 200) -> UserError:
        if _is_page(text):
            return self._refused(status, text)
        return UserError(
            "Ollama at {address} gave an answer that cannot be read ({found}).",
            "Try again; if it stays, update Ollama. chat.backend embedded works without it.",
            address=self.base,
            found=" ".join(text.split())[:60],
        )

    def _broken(self, problem: str) -> UserError:
        return UserError(
            "The connection to Ollama at {address} failed: {problem}.",
            "See whether Ollama still runs and try again; chat.backend embedded works without it.",
            address=self.base,
            problem=problem.rstrip("."),
        )


def blob_digest(path: Path, cancel: CancelToken, on_progress: Progressed) -> str:
    """The name of a file among Ollama's blobs, "sha256:…"."""
    sha256 = hashlib.sha256()
    tell = _sparing("hash", path.stat().st_size, on_progress)
    for done, block in _blocks(path):
        cancel.check()
        sha256.update(block)
        tell(done)
    return f"sha256:{sha256.hexdigest()}"


def full_name(model: str) -> str:
    """With its tag, as the server lists it; names differ in case only by mistake."""
    last = model.rsplit("/", 1)[-1]
    return (model if ":" in last else f"{model}:latest").lower()


def _blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """(bytes up to the end of this block, block)"""
    done = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            done += len(block)
            yield done, block


def _sparing(what: str, size: int, on_progress: Progressed) -> Callable[[int], None]:
    """Passes on the first, the last, and every so many bytes."""
    told = 0

    def tell(done: int) -> None:
        nonlocal told
        if done == size or told == 0 or done - told >= size / TELLING_PARTS:
            told = done
            on_progress(what, done, size)

    return tell


def _is_page(body: str) -> bool:
    return body.lstrip().startswith("<")


def _error_in(body: str) -> str:
    """The server's words; what the llama.cpp behind it says comes as an answer of its own inside them."""
    try:
        found = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return body.strip()[:200]
    if isinstance(found, dict):
        return str(found.get("message") or found)[:200]
    return _error_in(found) if isinstance(found, str) and found.startswith("{") else str(found)


def _names_a_model(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("name"), str) and isinstance(row.get("digest"), str)


def whole(number: Any) -> int:
    """A count as it came; 0 where none did."""
    return number if isinstance(number, int) else 0


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
