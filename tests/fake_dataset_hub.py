"""A local server that speaks the hub's HTTP API for datasets as far as the libraries ask it; for tests only.

Programs under test reach it through HF_ENDPOINT, in a process of their own: the libraries read that once.
"""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

API = re.compile(
    r"/api/datasets/(?P<source>[^/]+/[^/]+)(/(?P<what>revision|tree|paths-info)/(?P<revision>[^/]+)(/(?P<folder>.+))?)?"
)
RESOLVE = re.compile(r"/datasets/(?P<source>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")


@dataclass
class FakeDataset:
    """`files` by path; `gated`: described to everybody, its files for nobody; `tags`: other versions by name."""

    files: dict[str, bytes]
    gated: bool = False
    tags: dict[str, "FakeDataset"] = field(default_factory=dict)

    @cached_property
    def commit(self) -> str:
        return hashlib.sha1(b"".join(self.files.values())).hexdigest()


@dataclass
class FakeDatasetHub:
    """`requests` are (method, path, Range header)."""

    datasets: dict[str, FakeDataset] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    n_bytes_served: int = 0

    def __enter__(self) -> "FakeDatasetHub":
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, cache: Path) -> dict[str, str]:
        """What a program needs to take this for the hub, with a cache of its own."""
        return {
            "HF_ENDPOINT": f"http://127.0.0.1:{self._server.server_address[1]}",
            "HF_HOME": str(cache),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN_PATH": str(cache / "no token"),
        }


class _Handler(BaseHTTPRequestHandler):
    hub: FakeDatasetHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        match = API.fullmatch(path) or RESOLVE.fullmatch(path)
        found = self.hub.datasets.get(match["source"]) if match else None
        if match is None or found is None:
            return self._refuse(404, "RepoNotFound", "Repository not found")
        versions = {name: tagged for tag, tagged in found.tags.items() for name in (tag, tagged.commit)}
        found = versions.get(match["revision"] or "main", found)
        if match["revision"] not in (None, "main", found.commit, *versions):
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        if match.re is RESOLVE:
            return self._resolve(found, match["name"])
        if match["what"] in (None, "revision"):
            rows = [{"rfilename": name} for name in found.files]
            gated = "manual" if found.gated else False
            return self._json(
                {"id": match["source"], "sha": found.commit, "siblings": rows, "tags": [], "gated": gated}
            )
        if match["what"] == "tree":
            return self._json(self._tree(found, match["folder"] or ""))
        wanted = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
        return self._json([row for row in self._tree(found, "") if row["path"] in wanted])

    def _tree(self, found: FakeDataset, folder: str) -> list[dict[str, object]]:
        inside = [name for name in found.files if name.startswith(f"{folder}/" if folder else "")]
        folders = {name.rpartition("/")[0] for name in inside} - {"", folder}
        rows: list[dict[str, object]] = [{"type": "directory", "path": name, "oid": "0" * 40} for name in folders]
        for name in inside:
            content = found.files[name]
            rows.append({"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()})
        return rows

    def _resolve(self, found: FakeDataset, name: str) -> None:
        if found.gated:
            return self._refuse(401, "GatedRepo", "Access is restricted")
        if name not in found.files:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        content = found.files[name]
        headers = {
            "X-Repo-Commit": found.commit,
            "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
            "Accept-Ranges": "bytes",
        }
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not part:
            return self._send(200, content, headers)
        start, end = int(part[1]), min(int(part[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        return self._send(206, content[start : end + 1], headers)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.hub.n_bytes_served += len(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
