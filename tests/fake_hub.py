"""A local server that speaks the hub's HTTP API for models and refuses what the real one refuses; for tests only.

Small files are served directly; large ones (safetensors) by a redirect to another host name, as the real hub does.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants, hf_api
from huggingface_hub.utils import close_session

API = re.compile(r"/api/models/(?P<source>[^/]+/[^/]+)/revision/(?P<revision>.+)")
RESOLVE = re.compile(r"/(?P<source>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")
TOKEN = "hf_geheim0123456789"
ACCOUNT, NAME_OF_TOKEN = "kenkyuusha", "研究用"


@dataclass
class FakeModel:
    """`gated`: its description is public, its files only for `TOKEN`; `commit` follows from the files if not given."""

    folder: Path
    license: str | dict[str, str] = "mit"
    gated: bool = False
    private: bool = False
    n_parameters: int | None = None
    hidden_files: tuple[str, ...] = ()  # listed, but not there

    @cached_property
    def files(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in sorted(self.folder.iterdir()) if p.is_file()}

    @cached_property
    def commit(self) -> str:
        return hashlib.sha1(b"".join(self.files.values())).hexdigest()


@dataclass
class FakeHub:
    """Faults: `status` or `page` as every answer; `cut` files break off once, half way through.

    `requests` are (method, path, host, Range header, whether a token came along).
    """

    models: dict[str, FakeModel] = field(default_factory=dict)
    status: int = 0
    page: bytes = b""
    bad_token: bool = False
    cut: set[str] = field(default_factory=set)
    ignores_ranges: bool = False
    requests: list[tuple[str, str, str, str, bool]] = field(default_factory=list)

    def __enter__(self) -> "FakeHub":
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def go_down(self) -> None:
        """From now on connections are refused."""
        close_session()  # of the library in this process, which keeps connections open
        self.__exit__()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def fetched(self, name: str) -> list[str]:
        """The Range header of every GET of a file's bytes, wherever they were served."""
        return [r for method, path, _, r, _ in self.requests if method == "GET" and path.endswith(f"/{name}")]


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[FakeHub]:
    """A fake hub that the hub's library in this process takes for the real one, with a cache of its own."""
    with FakeHub() as hub:
        point_at(monkeypatch, hub.port, cache)
        yield hub


def point_at(monkeypatch: pytest.MonkeyPatch, port: int, cache: Path) -> None:
    endpoint = f"http://127.0.0.1:{port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(hf_api.api, "endpoint", endpoint)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(cache / "no tokens"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 14)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        authorised = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        host = str(self.headers.get("Host")).partition(":")[0]
        with_token = "Authorization" in self.headers
        self.hub.requests.append((self.command, path, host, self.headers.get("Range", ""), with_token))
        if self.hub.page:
            return self._send(200, self.hub.page, {"Content-Type": "text/html"})
        if self.hub.status:
            return self._send(self.hub.status, b"{}")
        if self.hub.bad_token and with_token:
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        if path == "/api/whoami-v2":
            if not authorised:
                return self._refuse(401, "", "Invalid credentials in Authorization header")
            of_token = {"accessToken": {"displayName": NAME_OF_TOKEN, "role": "read"}}
            return self._send(200, json.dumps({"name": ACCOUNT, "auth": of_token}).encode())
        if path.startswith("/cdn/"):
            owner, repo, name = path.removeprefix("/cdn/").split("/", 2)
            return self._send_file(self.hub.models[f"{owner}/{repo}"], name)
        match = API.fullmatch(path) or RESOLVE.fullmatch(path)
        model = self.hub.models.get(match["source"]) if match else None
        if match is None or model is None or (model.private and not authorised):
            return self._refuse(404 if authorised else 401, "RepoNotFound", "Repository not found")
        if match["revision"] not in ("main", model.commit):
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        if match.re is API:
            return self._send(200, json.dumps(self._description(match["source"], model)).encode())
        return self._resolve(match["source"], model, match["name"], authorised)

    def _resolve(self, source: str, model: FakeModel, name: str, authorised: bool) -> None:
        if model.gated and not authorised:
            return self._refuse(403 if "Authorization" in self.headers else 401, "GatedRepo", "Access is restricted")
        if name not in model.files or name in model.hidden_files:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        if not name.endswith(".safetensors"):
            return self._send_file(model, name)
        content = model.files[name]
        self._send(
            302,
            b"",
            {
                "Location": f"http://localhost:{self.hub.port}/cdn/{source}/{name}",
                "X-Repo-Commit": model.commit,
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
            },
        )

    def _send_file(self, model: FakeModel, name: str) -> None:
        content = model.files[name]
        headers = {"X-Repo-Commit": model.commit, "ETag": f'"{_blob_id(content)}"', "Accept-Ranges": "bytes"}
        first = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if first and not self.hub.ignores_ranges:
            start = int(first[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return self._send(206, content[start:], headers)
        if name in self.hub.cut and self.command == "GET":
            self.hub.cut.discard(name)
            self.send_response(200)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return None
        return self._send(200, content, headers)

    def _description(self, source: str, model: FakeModel) -> dict[str, object]:
        siblings = []
        for name, content in model.files.items():
            row: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": _blob_id(content)}
            if name.endswith((".safetensors", ".bin")):
                sha256 = hashlib.sha256(content).hexdigest()
                row["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 134}
            siblings.append(row)
        siblings.append({"rfilename": "original/consolidated.safetensors", "size": 10**12, "blobId": "0" * 40})
        card = model.license if isinstance(model.license, dict) else {"license": model.license}
        found = {"id": source, "sha": model.commit, "siblings": siblings, "cardData": card, "tags": [], "downloads": 1}
        if model.n_parameters:
            found["safetensors"] = {"parameters": {"F32": model.n_parameters}, "total": model.n_parameters}
        return found | {"gated": "manual" if model.gated else False}

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(status, b"{}", {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _blob_id(content: bytes) -> str:
    """Git's name for a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
