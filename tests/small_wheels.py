"""Real wheels of a few bytes or megabytes, and a package index on this machine that can cut its answers short."""

import base64
import hashlib
import re
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def make_wheel(folder: Path, name: str, version: str, files: Mapping[str, bytes]) -> Path:
    """A pure wheel of these files (path inside it -> content)."""
    information = f"{name}-{version}.dist-info"
    metadata = {
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{information}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    everything = {**files, **metadata}
    rows = [f"{path},sha256={_digest(content)},{len(content)}" for path, content in everything.items()]
    everything[f"{information}/RECORD"] = "\n".join([*rows, f"{information}/RECORD,,", ""]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:  # stored, so that a large file is a large download
        for path, content in everything.items():
            archive.writestr(path, content)
    return wheel


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


@dataclass
class Index:
    """What it offers and what it was asked. `cuts` times a large file ends after half of what was asked for; bytes of
    `changed` files are others than the index says."""

    folder: Path
    address: str = ""
    cuts: int = 0
    changed: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)  # (file, Range)
    served_bytes: int = 0
    silent: bool = False
    login: str = ""  # "name:password" without which nothing is told
    released: threading.Event = field(default_factory=threading.Event)

    def fetched(self) -> set[str]:
        return {file.partition("-")[0] for file, _ in self.asked}


@contextmanager
def package_index(folder: Path) -> Iterator[Index]:
    """Serve the wheels of a folder as a simple index until the block ends."""
    index = Index(folder)

    class Handler(_Handler):
        about = index

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index.address = f"http://127.0.0.1:{server.server_address[1]}/simple/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield index
    finally:
        index.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    about: Index

    def do_HEAD(self) -> None:
        if self._is_stranger():
            return
        self._send(self._file().stat().st_size, 200)

    def do_GET(self) -> None:
        if self.about.silent:
            self.about.released.wait(60)
            return
        if self._is_stranger():
            return
        if self.path.startswith("/simple/"):
            self._list()
        else:
            self._serve(self._file())

    def log_message(self, *_: Any) -> None:
        pass

    def _is_stranger(self) -> bool:
        """Whether the login is missing, and that was told."""
        known = f"Basic {base64.b64encode(self.about.login.encode()).decode()}"
        if not self.about.login or self.headers.get("Authorization") == known:
            return False
        self._send(0, 401, more={"WWW-Authenticate": 'Basic realm="index"'})
        return True

    def _file(self) -> Path:
        return self.about.folder / self.path.rsplit("/", 1)[-1].removesuffix(".metadata")

    def _list(self) -> None:
        wanted = self.path.removeprefix("/simple/").strip("/")
        wheels = [w for w in sorted(self.about.folder.glob("*.whl")) if _normal(w.name.partition("-")[0]) == wanted]
        links = "".join(f'<a href="/files/{w.name}#sha256={sha256(w)}">{w.name}</a>' for w in wheels)
        body = f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
        self._send(len(body), 200 if wheels else 404, "text/html")
        self.wfile.write(body)

    def _serve(self, file: Path) -> None:
        content = file.read_bytes()
        fetched = self.headers.get("User-Agent", "").startswith("python-httpx")  # uv looks into wheels by itself
        if fetched and file.name in self.about.changed:
            content = content[:-1] + bytes([content[-1] ^ 1])
        asked = self.headers.get("Range", "")
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
        start, end = (int(found[1]), int(found[2] or len(content) - 1)) if found else (0, len(content) - 1)
        piece = content[start : end + 1]
        self._send(len(piece), 206 if found else 200, more={"Content-Range": f"bytes {start}-{end}/{len(content)}"})
        if fetched:
            if self.about.cuts and len(content) > 100_000:
                self.about.cuts -= 1
                piece = piece[: len(piece) // 2]
            self.about.asked.append((file.name, asked))
            self.about.served_bytes += len(piece)
        self.wfile.write(piece)

    def _send(self, length: int, status: int, kind: str = "application/zip", more: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        headers = {"Content-Length": str(length), "Content-Type": kind, "Accept-Ranges": "bytes", **more}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
