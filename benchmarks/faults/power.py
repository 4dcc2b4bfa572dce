"""A power cut, simulated: what was not forced to the disk is lost, in part or whole, as a journalling disk may
lose it.

A fork notes every fsync, rename, delete and mkdir that Python makes (`moments.py`). At a chosen one it writes
down what a disk could hold now, and ends. Names: as they were at some moment since a folder was last forced,
for the orders of a journal are kept. Contents: as last forced; of what was written since, nothing, a part, a
part with zeros behind it, or all. Files that SQLite forces by itself, unseen from Python, are taken as they
are.
"""

import os
import random
import shutil
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .dose import Dose
from .engine import STEPS, forked
from .judge import Trial, ended_well, false_claims, last_checkpoint, lost_steps, n_events, users_files_lost
from .kills import moments_of
from .moments import listen
from .ritual import Reference

FAULT = "a power cut"
HOW = (
    "Simulated in pure Python at the edge of `os`: at a chosen fsync, rename, delete or mkdir, or some milliseconds "
    "later, the run is put together anew from what was forced to the disk; of everything else as much as chance "
    "allows (names as of some moment since a folder was last forced; contents empty, in part, with zeros behind, or "
    "whole). It does not try the disk's own cache, nor SQLite's files, which SQLite forces by itself."
)
UNSEEN = (".db", ".db-journal", ".db-wal", ".db-shm")


def trials(reference: Reference, dose: Dose, log: Path) -> Iterator[Trial]:
    for step in dose.some(STEPS, FAULT):
        n_moments = moments_of(reference, step, log)
        for number in range(dose.of(0.4)):
            yield _trial(reference, step, n_moments, dose.seed + number, log)


def _trial(reference: Reference, step: str, n_moments: int, seed: int, log: Path) -> Trial:
    chance = random.Random(f"{step} {seed}")
    run, survived = reference.set_out(step), reference.folder / "after the cut"
    shutil.rmtree(survived, ignore_errors=True)
    log.unlink(missing_ok=True)
    moment, delay = chance.randrange(n_moments), chance.choice((0.0, 0.0, chance.random() * 0.2))
    disk = Disk(run.path, survived, random.Random(f"{step} {seed} disk"))
    command = ["run", str(run.path), "--only", step]
    attempt = forked(command, log, disk.cut_at(moment, delay))
    attempt.wait()
    problems: list[str] = []
    if attempt.exit_code == -signal.SIGKILL:
        safe = last_checkpoint(run) if step == "train" else 0
        shutil.rmtree(run.path)
        shutil.copytree(survived, run.path)
        problems += [*false_claims(run), *users_files_lost(run)]
        heard = n_events(run)
    else:  # it ended before the moment came
        safe, heard = 0, n_events(run)
    problems += ended_well(reference, step, forked(command, log))
    if step == "train":
        problems += lost_steps(run, heard, safe)
    return Trial(FAULT, step, seed, "; ".join(problems), "at a call" if delay == 0 else "a little after a call")


class Disk:
    """What a disk under `folder` could hold at any moment, by what was forced."""

    def __init__(self, folder: Path, survived: Path, chance: random.Random) -> None:
        self._folder, self._survived, self._chance = folder, survived, chance
        self._open: dict[int, int] = {}  # inode → a descriptor, so that neither content nor number goes away
        self._forced: dict[int, bytes] = {}
        self._names: list[dict[str, int]] = []  # since the last forced folder; 0 is a folder
        self._busy = False

    def cut_at(self, number: int, delay: float) -> Callable[[], None]:
        """What makes this process lose power at the moment of this number, or some seconds after."""

        def prepare() -> None:
            self._look()
            for inode in self._open:
                self._forced[inode] = self._content(inode)  # it was there long before
            heard_so_far = -1

            def heard(call: str, when: str, arguments: tuple[Any, ...]) -> None:
                nonlocal heard_so_far
                if self._busy:  # our own calls
                    return
                self._busy = True
                try:
                    self._note(call, when, arguments)
                    heard_so_far += 1
                    if heard_so_far == number:
                        if delay:
                            signal.signal(signal.SIGALRM, lambda *_: self._cut())
                            signal.setitimer(signal.ITIMER_REAL, delay)
                        else:
                            self._cut()
                finally:
                    self._busy = False

            listen(heard)

        return prepare

    def _note(self, call: str, when: str, arguments: tuple[Any, ...]) -> None:
        if when == "before":
            self._look()
            return
        if call == "fsync":
            handle = arguments[0] if isinstance(arguments[0], int) else arguments[0].fileno()
            status = os.fstat(handle)
            self._look()
            if stat.S_ISDIR(status.st_mode):
                self._names = self._names[-1:]
            elif status.st_ino in self._open:
                self._forced[status.st_ino] = self._content(status.st_ino)
        else:
            self._look()

    def _look(self) -> None:
        """Note the names as they are now."""
        names: dict[str, int] = {}
        for place, folders, files in os.walk(self._folder):
            for name in folders:
                names[os.path.relpath(os.path.join(place, name), self._folder)] = 0  # noqa: PTH118
            for name in files:
                path = os.path.join(place, name)  # noqa: PTH118
                try:
                    inode = os.stat(path).st_ino  # noqa: PTH116
                    if inode not in self._open:
                        self._open[inode] = os.open(path, os.O_RDONLY)
                except FileNotFoundError:
                    continue  # another thread was quicker
                names[os.path.relpath(path, self._folder)] = inode
        if not self._names or names != self._names[-1]:
            self._names.append(names)

    def _content(self, inode: int) -> bytes:
        handle = self._open[inode]
        return os.pread(handle, os.fstat(handle).st_size, 0)

    def _cut(self) -> None:
        """Leave in `survived` what the disk holds, and end without a word."""
        self._busy = True
        now = self._names[-1]
        names = self._chance.choice((self._names[0], self._chance.choice(self._names), now))
        unseen = {name: inode for name, inode in now.items() if name.endswith(UNSEEN)}
        for name, inode in {**names, **unseen}.items():
            target = self._survived / name
            if inode == 0:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self._content(inode) if name in unseen else self._left_of(inode))
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def _left_of(self, inode: int) -> bytes:
        now, forced = self._content(inode), self._forced.get(inode)
        if now == forced:
            return now
        least = len(forced) if forced is not None and now.startswith(forced) else 0
        length = self._chance.randint(least, max(least, len(now)))
        ways = [
            now,
            now[:length],
            now[:length] + bytes(max(0, len(now) - length)),
            forced if forced is not None else b"",
        ]
        return self._chance.choice(ways)
