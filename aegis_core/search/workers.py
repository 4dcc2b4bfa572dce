"""Which process works at a trial, and whether it lives: looked up on this machine, heard by its pulse from others."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
from optuna.trial import FrozenTrial

WORKER, PULSE = "worker", "pulse"
PULSE_SECONDS = 15.0
SILENT_SECONDS = 120.0
"""So long without a pulse and a worker on another machine counts as dead."""


def this_worker() -> str:
    """Machine, process and when that process began: process numbers come again."""
    return f"{socket.gethostname()}|{os.getpid()}|{psutil.Process().create_time():.2f}"


class Watch:
    """Tells the trials of the living from those of the dead, by what it has seen so far."""

    def __init__(self) -> None:
        self._heard: dict[int, tuple[str, int, float]] = {}

    def is_alive(self, trial: FrozenTrial) -> bool:
        """Whether somebody still works at this RUNNING trial.

        A process of this machine is looked up. Another's pulse must have changed within the last two minutes of our
        own clock; the clocks of two machines are never compared.
        """
        worker, pulse = str(trial.user_attrs.get(WORKER, "")), int(trial.user_attrs.get(PULSE, 0))
        machine, _, process = worker.partition("|")
        if machine == socket.gethostname():
            return _runs_here(process)
        last = self._heard.get(trial.number)
        if last is None or last[:2] != (worker, pulse):
            self._heard[trial.number] = (worker, pulse, time.monotonic())
            return True
        return time.monotonic() - last[2] < SILENT_SECONDS


@contextmanager
def beating(beat: Callable[[int], None]) -> Iterator[None]:
    """Call `beat` with 1, 2, … every few seconds from another thread until the block ends; its errors end it.

    A storage that fails under the pulse fails the trial's own next report as well, which is where it is told.
    """
    ended = threading.Event()

    def run() -> None:
        count = 0
        while not ended.wait(PULSE_SECONDS):
            count += 1
            beat(count)

    with ThreadPoolExecutor(1, thread_name_prefix="pulse") as thread:
        pulse = thread.submit(run)
        try:
            yield
        finally:
            ended.set()
    pulse.result()


def _runs_here(process: str) -> bool:
    number, _, began = process.partition("|")
    try:
        return f"{psutil.Process(int(number)).create_time():.2f}" == began
    except (psutil.NoSuchProcess, psutil.AccessDenied, ValueError):
        return False
