"""Whether there is an Ollama to work with, told in one sentence with one piece of advice; and starting it."""

import contextlib
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from .. import platforms
from ..addresses import shown_address
from ..events import Log, note, warning
from ..failures import UserError
from ..resources import cache_folder
from .ollama_address import address, is_loopback, proxy_for
from .ollama_program import find_program

PROBE_SECONDS = 1.5
START_SECONDS = 30.0
_LOOK_EVERY_SECONDS = 0.25
OLDEST_VERSION = (0, 5, 5)
"""The first version whose create takes uploaded files by digest."""
_GATEWAY = (407, 502, 503, 504)
_VERSION = re.compile(r"\d+(\.\d+)+\S*")


class Presence(StrEnum):
    """What was found: a usable Ollama, one too old, one installed on this machine that does not run, none installed,
    nobody at an address on another machine, another program, something that keeps silent, a proxy in between, an
    OLLAMA_HOST that is no address or one that cannot be reached as it is written."""

    RUNNING = "running"
    TOO_OLD = "too_old"
    STOPPED = "stopped"
    ABSENT = "absent"
    UNREACHABLE = "unreachable"
    STRANGER = "stranger"
    SILENT = "silent"
    PROXY = "proxy"
    BAD_ADDRESS = "bad_address"


@dataclass(frozen=True)
class OllamaState:
    """`problem` says what is wrong and what to do, None where Ollama is usable; `version` is empty unless one answered,
    `program` is where the executable lies on this machine, None where it was not found or not looked for."""

    presence: Presence
    address: str
    version: str = ""
    program: Path | None = None
    problem: UserError | None = None

    @property
    def usable(self) -> bool:
        return self.presence is Presence.RUNNING

    @property
    def can_start(self) -> bool:
        return self.presence is Presence.STOPPED

    def sentence(self) -> Log:
        """What is the case, as a line that the window translates; a warning where something stands in the way."""
        if self.problem is not None:
            say = note if self.presence in (Presence.STOPPED, Presence.ABSENT) else warning
            return say(self.problem.reason_template, **self.problem.values)
        return note("Ollama {version} answers at {address}.", version=self.version, address=self.address)


def look(seconds: float = PROBE_SECONDS) -> OllamaState:
    """Ask at the address; takes `seconds` at most twice. Never raises."""
    try:
        base = address()
    except UserError as error:
        return OllamaState(Presence.BAD_ADDRESS, "", problem=error)
    proxy = proxy_for(base)
    try:
        answer = httpx.get(f"{base}/api/version", timeout=seconds, trust_env=not is_loopback(base))
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        if proxy or isinstance(error, httpx.ProxyError):
            return _behind_proxy(base, proxy or "?")
        return _out_of_reach(base, error) if _is_encryption(error) else _nobody(base)
    except httpx.TimeoutException:
        return OllamaState(Presence.SILENT, base, problem=_silent(base))
    except httpx.HTTPError as error:
        return _stranger(base, str(error) or type(error).__name__)
    except (httpx.InvalidURL, ImportError, OSError, ValueError) as error:  # before anything is sent
        return _behind_proxy(base, proxy) if proxy else _out_of_reach(base, error)
    return _answered(base, proxy, answer)


def start_ollama(
    seconds: float = START_SECONDS,
    cancelled: Callable[[], bool] = lambda: False,
) -> OllamaState:
    """Start the Ollama installed here, without a window and independent of this program; its state once it answers.

    Returns at once where it runs already, and what is known so far when `cancelled` says so. UserError if there is
    nothing to start, if it ends again, or if it does not answer within `seconds`.
    """
    state = look()
    if state.usable or cancelled():
        return state
    if state.program is None or not state.can_start:
        raise state.problem or _silent(state.address)
    said = cache_folder() / "ollama.log"
    process = _started(state.program, said)
    deadline = time.monotonic() + seconds
    while not cancelled():
        ended = process.poll()
        state = look()
        if state.presence not in (Presence.STOPPED, Presence.SILENT):
            return state
        if ended is not None:
            raise UserError(
                "Ollama was started but ended again (exit code {code}): {problem}",
                "Start Ollama by hand to see what is wrong; the built-in llama.cpp works without it.",
                code=ended,
                problem=_last_line(said),
            )
        if time.monotonic() > deadline:
            raise UserError(
                "Ollama was started but does not answer at {address} after {seconds} seconds.",
                "Wait a little and look again; the built-in llama.cpp works without it.",
                address=state.address,
                seconds=round(seconds),
            )
        time.sleep(_LOOK_EVERY_SECONDS)
    return state


def is_new_enough(version: str) -> bool:
    numbers = version.split("-")[0].split("+")[0].split(".")
    if not all(part.isdecimal() for part in numbers):
        return True  # a build of one's own
    return tuple(int(part) for part in numbers) >= OLDEST_VERSION or set(numbers) == {"0"}


def _answered(base: str, proxy: str, answer: httpx.Response) -> OllamaState:
    version = _version(answer)
    if version and is_new_enough(version):
        return OllamaState(Presence.RUNNING, base, version, find_program() if is_loopback(base) else None)
    if version:
        oldest = ".".join(map(str, OLDEST_VERSION))
        problem = UserError(
            "Ollama {version} is too old: only from {oldest} on can a model be given to it.",
            "Update Ollama; until then the built-in llama.cpp answers.",
            version=version,
            oldest=oldest,
        )
        return OllamaState(Presence.TOO_OLD, base, version, problem=problem)
    if _is_gateway(answer, proxy, base):
        return _behind_proxy(base, proxy or answer.headers.get("via") or f"status {answer.status_code}")
    kind = answer.headers.get("content-type", "").split(";")[0]
    return _stranger(
        base, ", ".join(filter(None, [f"status {answer.status_code}", kind, answer.headers.get("server")]))
    )


def _version(answer: httpx.Response) -> str:
    """Empty unless the answer is one that Ollama gives."""
    try:
        row = answer.json()
    except ValueError:
        return ""
    version = row.get("version") if isinstance(row, dict) else None
    return version if isinstance(version, str) and answer.is_success and _VERSION.fullmatch(version) else ""


def _is_gateway(answer: httpx.Response, proxy: str, base: str) -> bool:
    """Answers that come from the way there: refused by it, marked by it, or its web page (a login, a warning)."""
    page = answer.text.lstrip().startswith("<")
    marked = "via" in answer.headers or "proxy-authenticate" in answer.headers
    return answer.status_code in _GATEWAY or marked or (page and (bool(proxy) or not is_loopback(base)))


def _nobody(base: str) -> OllamaState:
    if not is_loopback(base):
        problem = UserError(
            "Nobody answers at {address}, where OLLAMA_HOST says that Ollama is.",
            "Start Ollama there, or remove the environment variable OLLAMA_HOST; until then the built-in llama.cpp "
            "answers.",
            address=base,
        )
        return OllamaState(Presence.UNREACHABLE, base, problem=problem)
    program = find_program()
    if program is not None:
        problem = UserError(
            "Ollama is installed but does not run.", "Start it; until then the built-in llama.cpp answers."
        )
        return OllamaState(Presence.STOPPED, base, program=program, problem=problem)
    problem = UserError(
        "Ollama is not installed.",
        "It can be downloaded from ollama.com/download; without it the built-in llama.cpp answers.",
    )
    return OllamaState(Presence.ABSENT, base, problem=problem)


def _is_encryption(error: BaseException | None) -> bool:
    """Whether an https connection failed at its encryption: somebody is there."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


def _out_of_reach(base: str, error: Exception) -> OllamaState:
    problem = UserError(
        "OLLAMA_HOST says that Ollama is at {address}, which cannot be reached like that: {problem}.",
        "Set it to something like 127.0.0.1:11434 (Ollama itself speaks http, not https), or remove it.",
        address=base,
        problem=(str(error) or type(error).__name__).rstrip("."),
    )
    return OllamaState(Presence.BAD_ADDRESS, base, problem=problem)


def _stranger(base: str, found: str) -> OllamaState:
    problem = UserError(
        "Another program than Ollama answers at {address} ({found}).",
        "End that program, or give Ollama another address with the environment variable OLLAMA_HOST.",
        address=base,
        found=found,
    )
    return OllamaState(Presence.STRANGER, base, problem=problem)


def _silent(base: str) -> UserError:
    return UserError(
        "Something takes connections at {address} but does not answer.",
        "Start Ollama again, or end the program that holds its address.",
        address=base,
    )


def _behind_proxy(base: str, proxy: str) -> OllamaState:
    problem = UserError(
        "A proxy stands between AEGIS and Ollama at {address} ({proxy}).",
        "Put the address of Ollama into the environment variable NO_PROXY, or use an Ollama on this machine.",
        address=base,
        proxy=shown_address(proxy),
    )
    return OllamaState(Presence.PROXY, base, problem=problem)


def _started(program: Path, said: Path) -> "subprocess.Popen[bytes]":
    said.parent.mkdir(parents=True, exist_ok=True)
    try:
        with said.open("wb") as log:
            process = _outliving(program, log)
    except OSError as error:
        raise UserError(
            "{program} could not be started: {problem}.",
            "Start Ollama by hand; the built-in llama.cpp works without it.",
            program=program,
            problem=str(error).rstrip("."),
        ) from error
    threading.Thread(target=process.wait, name="ollama-ended", daemon=True).start()  # it may end long after this
    return process


def _outliving(program: Path, log: BinaryIO) -> "subprocess.Popen[bytes]":
    """Started so that it lives on after this program; OSError as the last way to do so was refused."""
    ways: tuple[Any, ...] = platforms.here().outliving()
    for how in ways[:-1]:
        with contextlib.suppress(PermissionError):
            return _serving(program, log, how)
    return _serving(program, log, ways[-1])


def _serving(program: Path, log: BinaryIO, how: Any) -> "subprocess.Popen[bytes]":
    command = [str(program), "serve"]
    with platforms.here().apart():
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=Path.home(), **how)


def _last_line(said: Path) -> str:
    lines = said.read_text(encoding="utf-8", errors="replace").split("\n") if said.is_file() else []
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "?")
