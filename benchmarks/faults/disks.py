"""Disks that are full, and folders that may not be written: on a real small file system in a namespace of its own."""

import ctypes
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aegis_core.run_directory import RunDirectory

from .dose import Dose
from .engine import STEPS, forked, in_fork
from .judge import Trial, drafts, ended_well, false_claims, refused_clearly, users_files_lost
from .ritual import Reference

FAULT = "a full disk"
HOW = (
    "The run lies on a tmpfs with room for a part, drawn by chance, of what the step writes; the step must end with "
    "one sentence, and once there is room, with the undisturbed result. Only the run's own disk is small; temporary "
    "files of the system lie elsewhere."
)
PAGE = 4096
CLONE_NEWNS, CLONE_NEWUSER, MS_REC, MS_PRIVATE, MS_REMOUNT, MS_RDONLY = 0x20000, 0x10000000, 0x4000, 1 << 18, 32, 1
AMPLE = 1 << 28


def trials(reference: Reference, dose: Dose, log: Path) -> Iterator[Trial]:
    if not may_mount(log):
        return
    for step in dose.some(STEPS, FAULT):
        for number in range(dose.of(0.4)):
            seed = dose.seed + number
            found = in_fork(lambda step=step, seed=seed: _trial(reference, step, seed, log), log.with_suffix(".host"))
            yield Trial(FAULT, step, seed, *found)


def _trial(reference: Reference, step: str, seed: int, log: Path) -> tuple[str, str]:
    """(what was lost, what came of it); in a fork of its own, whose mounts nobody else sees."""
    needed = _size(reference, step)
    room = random.Random(f"{step} {seed}").randrange(0, max(PAGE, needed), PAGE)
    place = reference.set_out(step).path
    kept = shutil.move(place, reference.folder / "kept")
    place.mkdir()
    small_disk(place, AMPLE)
    shutil.copytree(kept, place, dirs_exist_ok=True)
    shutil.rmtree(kept)
    used = AMPLE - os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
    resize(place, used + room)
    run, command = RunDirectory(place), ["run", str(place), "--only", step]
    log.unlink(missing_ok=True)
    attempt = forked(command, log)
    problems: list[str] = []
    came = "there was room enough" if attempt.wait() == 0 else "refused in a sentence"
    if attempt.exit_code != 0:
        problems += refused_clearly(attempt, "disk is full", "free", "space", "cannot be written")
        problems += drafts(run) if step != "train" else []
    problems += [*false_claims(run), *users_files_lost(run)]
    resize(place, AMPLE)
    problems += ended_well(reference, step, forked(command, log))
    return "; ".join(problems), came


def _size(reference: Reference, step: str) -> int:
    """What the step adds to the run, and a little more: markers, drafts beside what they replace."""
    following = dict(zip(STEPS, (*STEPS[1:], "end"), strict=True))[step]
    sizes = [sum(p.stat().st_size for p in reference.before(s).rglob("*") if p.is_file()) for s in (step, following)]
    return max(sizes[1] - sizes[0], 0) * 5 // 4 + 16 * PAGE


def small_disk(place: Path, n_bytes: int) -> None:
    """A file system of that size at `place` which this process and its children see; PermissionError if not allowed."""
    _own_mounts()
    mount(place, 0, f"size={n_bytes // PAGE * PAGE}")


def resize(place: Path, n_bytes: int) -> None:
    mount(place, MS_REMOUNT, f"size={n_bytes // PAGE * PAGE}")


def may_mount(log: Path) -> bool:
    """Whether this user may have mounts of his own here."""
    try:
        return bool(in_fork(lambda: _own_mounts() or True, log))
    except RuntimeError:
        return False


def _own_mounts() -> None:
    libc = _libc()
    if os.geteuid() == 0 and libc.unshare(CLONE_NEWNS) == 0:
        pass
    else:
        user, group = os.getuid(), os.getgid()
        if libc.unshare(CLONE_NEWNS | CLONE_NEWUSER):
            raise PermissionError(ctypes.get_errno(), "no mounts of one's own here")
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")
    if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        raise PermissionError(ctypes.get_errno(), "mounts cannot be kept private")


def mount(place: Path, flags: int, options: str) -> None:
    if _libc().mount(b"tmpfs", os.fsencode(place), b"tmpfs", flags, options.encode()):
        raise PermissionError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)
