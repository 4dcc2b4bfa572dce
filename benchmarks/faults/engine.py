"""The engine in a process of its own, quickly: this process has imported everything and forks the real `aegis …`.

A fresh Python spends seconds on importing torch before a fault can reach the step. Here the imports are done once, no
sum is ever reckoned and no thread of ours started in this process, and every attempt is a fork that runs the very
command line. `in_new_process` runs the same through a fresh Python, to show that the two agree. POSIX only.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 240.0
ORPHAN_PATIENCE_SECONDS = 10.0
STEPS = ("check", "prepare", "search", "schedule", "train", "fuse", "export", "chat", "report")
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "0",
}
ENVIRONMENT = {**ONE_THREAD, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1", "COLUMNS": "200"}


def load() -> None:
    """Import what any step needs, in this process."""
    os.environ.update(ENVIRONMENT)
    importlib.import_module("aegis_core.cli")
    for step in STEPS:
        importlib.import_module(f"aegis_core.steps.{step}")
    for name in ("peft", "transformers.models.llama.modeling_llama", "xllamacpp", "libgguf", "optuna.storages"):
        importlib.import_module(name)


@dataclass
class Attempt:
    """A running `aegis …`; `log` holds what it said. It leads a session of its own, so that what it leaves is found."""

    pid: int
    log: Path
    exit_code: int | None = None

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """The exit code, negative for a signal; one that takes longer is killed, and TimeoutError raised."""
        if self._ended(seconds):
            assert self.exit_code is not None
            return self.exit_code
        self.kill()
        raise TimeoutError(f"no end after {seconds:.0f} s: {self.said()[-300:]}")

    def kill(self) -> None:
        """kill -9 of this process alone; what it started must end by itself."""
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGKILL)
            self._ended(PATIENCE_SECONDS)

    def poll(self) -> int | None:
        self._ended(0)
        return self.exit_code

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""

    def orphans(self) -> list[str]:
        """Processes it left behind that have not ended by themselves after ten seconds; they are ended here."""
        deadline = time.monotonic() + ORPHAN_PATIENCE_SECONDS
        while (found := _of_session(self.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        names = [f"{process.pid} {process.name()}" for process in found]
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return names

    def _ended(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= deadline:
                return False
            else:
                time.sleep(0.002)
        return True


def forked(
    arguments: list[str],
    log: Path,
    prepare: Callable[[], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Attempt:
    """`aegis ARGUMENTS` in a fork; `prepare` arranges the fault there first."""
    from aegis_core.cli import main

    def work() -> int:
        os.environ.update(environment or {})
        if prepare:
            prepare()
        return main(arguments)

    return in_session(work, log)


def in_fork(work: Callable[[], Any], log: Path) -> Any:
    """What `work` returns, as JSON tells it, reckoned in a fork: for what this process must not do itself."""
    answer = log.with_suffix(".json")
    answer.unlink(missing_ok=True)

    def told() -> int:
        answer.write_text(json.dumps(work()), encoding="utf-8")
        return 0

    attempt = in_session(told, log)
    if attempt.wait() != 0:
        raise RuntimeError(attempt.said()[-3000:])
    return json.loads(answer.read_text(encoding="utf-8"))


def in_new_process(arguments: list[str], log: Path, environment: Mapping[str, str] | None = None) -> Attempt:
    """The same through a fresh Python."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "aegis_core", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    process.returncode = 0  # this Attempt waits for it, not the Popen
    return Attempt(process.pid, log)


def in_session(work: Callable[[], int], log: Path) -> Attempt:
    """A fork that does some work in a session of its own and ends with what that returns."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Attempt(pid, log)
    code = 70
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _of_session(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess, PermissionError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
