"""Runs uv without the user's settings, but with their proxies and certificates; ends when cancelled.

An address may hold a password: the index is told in uv's environment, and nothing it says is written down with one.
"""

import os
import subprocess
from pathlib import Path

from ..addresses import shown_address
from ..cancel import CancelToken
from ..failures import UserError
from .command import own_environment
from .watched import heard_out

_SETTINGS = ("UV_", "PIP_")
_OFFLINE = ("dns error", "error sending request", "Connect", "timed out", "connection", "certificate", "status code")
_DISK = ("No space left", "not enough space", "os error 112", "os error 28")
_IN_USE = ("Access is denied", "os error 5", "os error 32", "being used by another process", "Permission denied")


class Uv:
    """One uv with its cache and its own Pythons below `folder`; all it says goes to `log`. `index` is asked in PyPI's
    place."""

    def __init__(self, program: Path, folder: Path, log: Path, cancel: CancelToken, index: str | None = None) -> None:
        self._program, self._folder, self._log, self._cancel, self._index = program, folder, log, cancel, index

    @property
    def cache(self) -> Path:
        return self._folder / "cache"

    def run(self, *arguments: str | Path) -> str:
        """What it writes to stdout. UserError if it fails, Cancelled (at once) if told to stop."""
        self._cancel.check()
        fixed = ["--no-config", "--system-certs", "--no-progress", "--color", "never", "--cache-dir", str(self.cache)]
        command = [str(self._program), *map(str, arguments), *fixed]
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {shown_address(subprocess.list2cmdline(command))}\n")
        ended = heard_out(command, self._environment(), self._cancel)
        said = shown_address(ended.err)
        with self._log.open("a", encoding="utf-8") as log:
            log.write(said)
        if ended.code:
            raise failure(said, self._log)
        return ended.out

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in own_environment(os.environ).items() if not name.startswith(_SETTINGS)}
        index = {"UV_DEFAULT_INDEX": self._index} if self._index else {}
        return {**kept, **index, "UV_PYTHON_INSTALL_DIR": str(self._folder / "python"), "UV_PYTHON_INSTALL_BIN": "0"}


def failure(words: str, log: Path) -> UserError:
    """uv's last words as a sentence, and what can be done about it."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    errors = [line.removeprefix("error:").strip() for line in lines if line.startswith("error:")]
    said = " ".join([*(errors or lines[:1]), *(lines[-1:] if len(lines) > 1 else [])])[:300]
    if any(sign in words for sign in _DISK):
        advice = "Free some disk space and try again; what was fetched is kept."
    elif any(sign in words for sign in _IN_USE):
        advice = "Close programs that use the folder of the engine (a running step, an antivirus scan) and try again."
    elif any(sign in words for sign in _OFFLINE):
        advice = "Check the internet connection or the proxy and try again; what was fetched is kept."
    else:
        advice = "Try again. Everything that was said is in {log}."
    return UserError("The engine could not be set up: {problem}", advice, problem=said, log=log)
