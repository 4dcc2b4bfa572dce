"""The parent's side of the pipe: starts the engine as a child process, hears its events, stops it for certain.

Free of Qt and of torch: the window runs `events()` in a thread of its own.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from . import platforms
from .engine.command import engine_environment
from .events import TERMINAL, Event, Log, StepCancelled, StepFailed, StepStarted, decode, warning
from .failures import UserError, killed
from .platforms import Bond

LONGEST_LINE_BYTES = 16 * 1024 * 1024
_STDERR_KEPT_BYTES = 8 * 1024 * 1024
_TAIL_BYTES, _TAIL_LINES = 16 * 1024, 20
_SECONDS_FOR_LAST_WORDS = 2.0
_CANCELLED_EXIT = 130


class Child:
    """A running engine. Iterate `events()` once, in one thread; everything else may be called from any thread."""

    def __init__(self, command: Sequence[str], stderr_path: Path, env: Mapping[str, str] | None = None) -> None:
        """Start `command`, its stderr appended to `stderr_path`, `env` added to this program's environment.

        OSError if the command cannot be started or the file not written.
        """
        self._stderr_path = stderr_path
        stderr_path.parent.mkdir(parents=True, exist_ok=True)
        if stderr_path.is_file() and stderr_path.stat().st_size > _STDERR_KEPT_BYTES:
            with contextlib.suppress(PermissionError):  # Windows, while another child writes there
                stderr_path.unlink()
        with stderr_path.open("ab") as stderr:
            self._stderr_start = stderr.seek(0, os.SEEK_END)
            how: Any = platforms.here().engine()
            with platforms.here().apart():
                self._process: subprocess.Popen[bytes] = subprocess.Popen(
                    list(command),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    env=engine_environment(env),
                    **how,
                )
        self._bond = platforms.here().bind(self._process)
        self._stopping = False
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._stdout_closed = threading.Event()
        threading.Thread(target=self._write, name="engine-stdin", daemon=True).start()
        threading.Thread(target=self._sweep, name="engine-sweep", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it (POSIX)."""
        return self._process.poll()

    @property
    def running(self) -> bool:
        return self.exit_code is None

    def events(self) -> Iterator[Event]:
        """Every event until the child has ended; each step that started gets exactly one terminal event.

        What is not an event becomes a warning Log. If the child ends without a word about the step it was in, the
        last event is a StepFailed that says how it ended (StepCancelled where it was asked to stop). A failure before
        any step has begun (a bad plan, a locked run, a broken installation) is a StepFailed whose stage is empty.
        """
        open_stage: str | None = None
        n_terminal = 0
        for line in self._lines():
            event = _event(line)
            if isinstance(event, StepStarted):
                open_stage = event.stage
            elif isinstance(event, TERMINAL):
                n_terminal += 1
                open_stage = None
            yield event
        exit_code = self._process.wait()
        silent_failure = exit_code not in (0, _CANCELLED_EXIT) and not n_terminal and not self._stopping
        if open_stage is not None or silent_failure:
            yield self._last_words(open_stage or "", exit_code)

    def send(self, message: Mapping[str, Any]) -> None:
        """Hand one message to the child; never blocks, and is silently lost if the child has ended."""
        self._outbox.put(json.dumps(message, ensure_ascii=True).encode("ascii") + b"\n")

    def cancel(self) -> None:
        """Ask the child to save and exit: the message, and the end of its input. Returns at once."""
        self._stopping = True
        self.send({"do": "cancel"})
        self._outbox.put(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Whether the child has ended within `timeout` seconds."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, timeout: float = 30.0) -> None:
        """Ask the child to save and exit; after `timeout` seconds end it with all its children (at most 5 s more)."""
        self.cancel()
        if not self.wait(timeout):
            self.kill()

    def kill(self) -> None:
        """End the child and everything it started, at once."""
        self._stopping = True
        kill_tree(self._process.pid, self._bond)
        self.wait(1.0)

    def stderr_tail(self) -> str:
        """The last lines this child wrote to stderr."""
        with contextlib.suppress(FileNotFoundError), self._stderr_path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(min(self._stderr_start, end), end - _TAIL_BYTES))
            return "\n".join(file.read().decode("utf-8", errors="replace").splitlines()[-_TAIL_LINES:])
        return ""

    def _lines(self) -> Iterator[bytes]:
        assert self._process.stdout is not None
        try:
            while line := self._process.stdout.readline(LONGEST_LINE_BYTES):
                yield line
        finally:
            self._stdout_closed.set()
            self._process.stdout.close()

    def _write(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError), self._process.stdin as pipe:  # a child that has ended reads no more
            while (line := self._outbox.get()) is not None:
                pipe.write(line)
                pipe.flush()

    def _sweep(self) -> None:
        """Once the child has ended, end what it left behind if that still holds the pipe open: events() must end."""
        self._process.wait()
        self._outbox.put(None)
        if self._stdout_closed.wait(_SECONDS_FOR_LAST_WORDS):
            self._bond.release()
        else:
            self._bond.end_all()

    def _last_words(self, stage: str, exit_code: int) -> Event:
        if self._stopping or exit_code == _CANCELLED_EXIT:
            return StepCancelled(at=time.time(), stage=stage)
        tail = self.stderr_tail()
        last = next((line.strip() for line in reversed(tail.splitlines()) if line.strip()), "")
        why = killed(exit_code) if exit_code in (-9, 137) else _unfinished(stage, exit_code, last[:300])
        return StepFailed(
            why.reason,
            why.advice,
            tail,
            why.reason_template,
            why.advice_template,
            why.values,
            at=time.time(),
            stage=stage,
        )


def kill_tree(pid: int, bond: Bond, timeout: float = 3.0) -> None:
    """Kill a process, all its descendants and what else is bound to it; wait for them, at most `timeout` seconds."""
    try:
        root = psutil.Process(pid)
        family = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        family = []
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()
    if family:
        bond.end_all()  # those born in between
    psutil.wait_procs(family, timeout=timeout)


def _event(line: bytes) -> Event:
    text = line.decode("utf-8", errors="replace").strip()
    try:
        return decode(text)
    except ValueError:
        return _stamped(warning("The engine wrote something that is not an event: {line}", line=text[:300]))


def _stamped(log: Log) -> Log:
    return Log(log.level, log.text, log.template, log.values, at=time.time())


def _unfinished(stage: str, exit_code: int, words: str) -> UserError:
    """What is known of an end that no event explains."""
    cause = _cause(exit_code)
    if not words:
        return UserError(
            "The engine ended without finishing: {cause}." if stage else "The engine could not start: {cause}.",
            "Run the step again; it continues where it stopped. The end of stderr.log says more.",
            cause=cause,
        )
    return UserError(
        "The engine ended without finishing: {cause}. Its last words: {words}"
        if stage
        else "The engine could not start: {cause}. Its last words: {words}",
        "Run the step again; it continues where it stopped. The end of stderr.log says more.",
        cause=cause,
        words=words,
    )


def _cause(exit_code: int) -> str:
    if exit_code < 0:
        return f"signal {-exit_code} ({_signal_name(-exit_code)})"
    if exit_code >= 0xC0000000:  # Windows: an NTSTATUS
        return f"exit code 0x{exit_code:08X}"
    return f"exit code {exit_code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
