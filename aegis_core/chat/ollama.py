"""A client of Ollama's HTTP API: who answers, blobs, create, chat, what is loaded. Every refusal becomes a UserError.

Answers that come line by line are read in a thread of their own, so that a stop is heard while the server is silent.
"""

import hashlib
import ipaddress
import json
import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from ..cancel import CancelToken
from ..failures import UserError

DEFAULT_PORT = 11434
PROBE_SECONDS = 1.5
CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 600.0
POLL_SECONDS = 0.1
BLOCK_BYTES = 1 << 20
OLDEST_VERSION = (0, 5, 5)
"""The first version whose create takes uploaded files by digest."""

Row = dict[str, Any]
Progressed = Callable[[str, int, int], None]
"""(what is being done, bytes done, bytes in all)"""


@dataclass(frozen=True)
class LoadedModel:
    """A model in the server's memory; `digest` is that of the model, `size_bytes` what it takes."""

    name: str
    digest: str
    size_bytes: int
    vram_bytes: int


def address() -> str:
    """Where Ollama should be: OLLAMA_HOST as Ollama reads it, or the default."""
    text = os.environ.get("OLLAMA_HOST", "").strip().strip("\"'").rstrip("/")
    parts = urlsplit(text if "://" in text else f"//{text}")
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, DEFAULT_PORT)
    host = parts.hostname or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # a server's listening address is no destination
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme or 'http'}://{host}:{port}{parts.path}"


def probe() -> str | None:
    """The version of the Ollama that answers, or None: nobody there, too slow, or another program."""
    base = address()
    try:
        answer = httpx.get(f"{base}/api/version", timeout=PROBE_SECONDS, trust_env=not _is_loopback(base))
        version = answer.json()["version"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        return None
    return version if isinstance(version, str) else None


def is_new_enough(version: str) -> bool:
    numbers = version.split("-")[0].split("+")[0].split(".")
    if not all(part.isdecimal() for part in numbers):
        return True  # a build of one's own
    return tuple(int(part) for part in numbers) >= OLDEST_VERSION or set(numbers) == {"0"}


class OllamaClient:
    """A connection to the Ollama at `address()`, for use in a `with` block or until close()."""

    def __init__(self, base: str | None = None) -> None:
        self.base = base or address()
        timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
        self._http = httpx.Client(base_url=self.base, timeout=timeout, trust_env=not _is_loopback(self.base))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def upload(self, path: Path, digest: str, cancel: CancelToken, on_progress: Progressed) -> None:
        """Put a file of this digest ("sha256:…") on the server, unless it is there already."""
        if self._send("HEAD", f"/api/blobs/{digest}", accept=(200, 404)).status_code == 200:
            return
        size = path.stat().st_size
        blocks = _blocks(path, cancel, lambda done: on_progress("upload", done, size))
        self._send("POST", f"/api/blobs/{digest}", content=blocks, headers={"Content-Length": str(size)})

    def create(self, request: Row, cancel: CancelToken, on_status: Callable[[Row], None]) -> None:
        """Make a model; `on_status` hears every line (status, completed, total). UserError on any error line."""
        last: Row = {}
        for row in self._lines("/api/create", request, lambda: cancel.cancelled):
            on_status(row)
            last = row
        cancel.check()
        if last.get("status") != "success":
            raise self._broken("the connection ended before the model was made")

    def chat(self, request: Row, cancelled: Callable[[], bool]) -> Iterator[Row]:
        """The lines of an answer, the last of them with done true; ends early when `cancelled` says so."""
        return self._lines("/api/chat", request, cancelled)

    def show(self, model: str) -> Row | None:
        """What the server tells about a model (template, parameters, modelfile …), or None if it has none."""
        answer = self._send("POST", "/api/show", json={"model": model}, accept=(200, 404))
        return None if answer.status_code == 404 else self._json(answer)

    def model_digest(self, model: str) -> str:
        """The digest of the model of that name, empty if there is none."""
        rows = self._json(self._send("GET", "/api/tags")).get("models") or []
        return next((str(row["digest"]) for row in rows if _full_name(row["name"]) == _full_name(model)), "")

    def loaded(self) -> list[LoadedModel]:
        """The models in the server's memory now."""
        rows = self._json(self._send("GET", "/api/ps")).get("models") or []
        return [LoadedModel(r["name"], r["digest"], int(r.get("size", 0)), int(r.get("size_vram", 0))) for r in rows]

    def is_loaded(self, model: str, digest: str) -> LoadedModel | None:
        """The loaded model of this very name and digest."""
        name = _full_name(model)
        return next((m for m in self.loaded() if _full_name(m.name) == name and m.digest == digest), None)

    def unload(self, model: str) -> None:
        """Take a model out of the server's memory; nothing happens if it does not know the model."""
        self._send("POST", "/api/generate", json={"model": model, "keep_alive": 0}, accept=(200, 404))

    def delete(self, model: str) -> None:
        """Remove a model from the server; nothing happens if it is not there."""
        self._send("DELETE", "/api/delete", json={"model": model}, accept=(200, 404))

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
            raise self._broken("its answer is no JSON") from error
        if not isinstance(row, dict):
            raise self._broken("its answer is no JSON object")
        return row

    def _lines(self, path: str, request: Row, cancelled: Callable[[], bool]) -> Iterator[Row]:
        """Lines of JSON as they arrive; a line with an error, a status of 400 or more, a broken line: UserError."""
        arrived: queue.SimpleQueue[Row | BaseException | None] = queue.SimpleQueue()
        abandoned = threading.Event()
        reader = threading.Thread(target=self._read, args=(path, request, arrived, abandoned), daemon=True)
        reader.start()
        try:
            while not cancelled():
                try:
                    row = arrived.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    continue
                if row is None:
                    return
                if isinstance(row, BaseException):
                    raise row
                yield row
        finally:
            abandoned.set()

    def _read(
        self,
        path: str,
        request: Row,
        arrived: "queue.SimpleQueue[Row | BaseException | None]",
        abandoned: threading.Event,
    ) -> None:
        try:
            with self._http.stream("POST", path, json=request) as answer:
                if answer.status_code >= 400:
                    raise self._refused(answer.status_code, answer.read().decode("utf-8", "replace"))
                for line in answer.iter_lines():
                    if abandoned.is_set():
                        return
                    if line.strip():
                        arrived.put(self._parsed(line))
            arrived.put(None)
        except (httpx.HTTPError, httpx.StreamError) as error:
            arrived.put(self._broken(_reason(error)))
        except UserError as error:
            arrived.put(error)

    def _parsed(self, line: str) -> Row:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise self._broken(f"it sent a broken line, {line[:60]!r}") from error
        if not isinstance(row, dict):
            raise self._broken(f"it sent a strange line, {line[:60]!r}")
        if "error" in row:
            raise self._refused(200, line)
        return row

    def _refused(self, status: int, body: str) -> UserError:
        try:
            problem = str(json.loads(body)["error"])
        except (ValueError, KeyError, TypeError):
            problem = body.strip()[:200] or f"status {status}"
        return UserError(
            "Ollama refuses: {problem}.",
            "See whether Ollama is up to date; chat.backend embedded works without it.",
            problem=problem.rstrip("."),
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
    size, sha256 = path.stat().st_size, hashlib.sha256()
    for block in _blocks(path, cancel, lambda done: on_progress("hash", done, size)):
        sha256.update(block)
    return f"sha256:{sha256.hexdigest()}"


def _blocks(path: Path, cancel: CancelToken, on_done: Callable[[int], None]) -> Iterator[bytes]:
    done = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            cancel.check()
            yield block
            done += len(block)
            on_done(done)


def _full_name(model: str) -> str:
    """With its tag, as the server lists it; names differ in case only by mistake."""
    last = model.rsplit("/", 1)[-1]
    return (model if ":" in last else f"{model}:latest").lower()


def _is_loopback(base: str) -> bool:
    """A proxy meant for the internet must not see what goes to this machine."""
    host = urlsplit(base).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
