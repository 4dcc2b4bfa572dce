"""A run whose folder may not be written: the file system is read-only, as on a write-protected stick or a share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from .damage import hashes
from .disks import AMPLE, MS_RDONLY, MS_REMOUNT, may_mount, mount, small_disk
from .dose import Dose
from .engine import STEPS, forked, in_fork
from .judge import Trial, refused_clearly
from .ritual import Reference

FAULT = "a read-only folder"
HOW = (
    "The run lies on a file system mounted read-only (for a superuser too): every step must say so in one sentence "
    "and change nothing; `aegis status` must still read the run."
)


def trials(reference: Reference, dose: Dose, log: Path) -> Iterator[Trial]:
    if not may_mount(log):
        return
    for step in dose.some(STEPS, FAULT):
        found = in_fork(lambda step=step: _trial(reference, step, log), log.with_suffix(".host"))
        yield Trial(FAULT, step, dose.seed, "; ".join(found), "refused in a sentence")


def _trial(reference: Reference, step: str, log: Path) -> list[str]:
    place = reference.set_out(step).path
    kept = shutil.move(place, reference.folder / "kept")
    place.mkdir()
    small_disk(place, AMPLE)
    shutil.copytree(kept, place, dirs_exist_ok=True)
    shutil.rmtree(kept)
    before = hashes(place)
    mount(place, MS_REMOUNT | MS_RDONLY, "")
    log.unlink(missing_ok=True)
    problems = refused_clearly(forked(["run", str(place), "--only", step], log), "cannot be written to")
    log.unlink(missing_ok=True)
    if forked(["status", str(place)], log).wait() != 0:
        problems.append(f"status cannot read it: {log.read_text(encoding='utf-8')[-300:]}")
    if hashes(place) != before:
        problems.append("something changed")
    return problems
