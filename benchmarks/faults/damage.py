"""Every file that a step reads, cut short at a random place or with random bytes flipped."""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from aegis_core.failures import UserError
from aegis_core.freshness import BY_ID
from aegis_core.run_directory import RunDirectory

from .dose import Dose
from .engine import STEPS, Attempt, forked
from .judge import Trial, claimed_more, differences, drafts, refused_clearly, users_files_lost
from .moments import kill_at
from .ritual import DATA, MODEL, Reference

FAULT = "a damaged input file"
HOW = (
    "Every file that lies there when a step begins (plan, markers, results of earlier steps, model folder, data file; "
    "for the long steps also what an attempt left that was cut off: study, checkpoints, metrics, answers) is cut at a "
    "random place or gets random bytes flipped, its time and, where flipped, its size kept; then the step is run."
)
CUT, FLIPPED = "cut", "flipped"
READ_THE_BASE = ("prepare", "fuse", "train")
CONTINUED = {"search": 0.6, "schedule": 0.6, "train": 0.6, "fuse": 0.6, "export": 0.6, "chat": 0.6}
# What a run writes on its own account while it refuses, or moves aside: no result.
OWN = ("events.jsonl", "stderr.log", "lock", "report.json", "report.md", "report.html", "previous/")
UNREAD = ("events.jsonl", "stderr.log", "lock", "conversations/", "/begun.json", "id")


def trials(reference: Reference, dose: Dose, log: Path) -> Iterator[Trial]:
    for step in STEPS[1:]:
        reference.set_out(step)
        yield from _of(reference, step, step, dose, log, reference.before(step))
    for step, part in CONTINUED.items():
        yield from _of(reference, step, f"{step}, cut off before", dose, log, _cut_off(reference, step, part, log))


def _of(reference: Reference, step: str, place: str, dose: Dose, log: Path, start: Path) -> Iterator[Trial]:
    """Each file once by cut and once by flip, for every 50 times of the dose; of a short dose, one of them."""
    names = [path.relative_to(start).as_posix() for path in sorted(start.rglob("*")) if path.is_file()]
    folders = STEPS if BY_ID[step].shows_gaps else (*BY_ID[step].inputs, *BY_ID[step].beside, step)
    read = ("plan.json", *(f"{folder}/" for folder in folders))
    names = [name for name in names if name.startswith(read) and not any(part in f"/{name}" for part in UNREAD)]
    if step != "train":
        names = [name for name in names if not name.startswith("train/checkpoint-")]
    if step in READ_THE_BASE:
        names += [f"{MODEL}/{path.name}" for path in sorted((reference.folder / MODEL).iterdir())]
    if step == "prepare":
        names.append(DATA)
    ways = (CUT, FLIPPED)
    chosen = [(name, way) for name in names for way in ways] * dose.of(1 / 50)
    if BY_ID[step].shows_gaps:  # it reads everything: each file by one of the two
        chosen = [(name, ways[number % 2]) for number, name in enumerate(names)]
    if dose.is_short:
        chosen = random.Random(f"{step} {dose.seed}").sample(chosen, 1)
    for number, (name, way) in enumerate(chosen):
        yield _trial(reference, step, place, start, name, way, dose.seed + number, log)


def _cut_off(reference: Reference, step: str, part: float, log: Path) -> Path:
    """The run as a kill well within the step left it."""
    from .kills import moments_of

    n_moments = moments_of(reference, step, log)
    run, kept = reference.set_out(step), reference.folder / "cut off" / step
    forked(["run", str(run.path), "--only", step], log, kill_at(int(n_moments * part))).wait()
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(run.path, kept)
    return kept


def _trial(
    reference: Reference, step: str, place: str, start: Path, name: str, way: str, seed: int, log: Path
) -> Trial:
    chance = random.Random(f"{step} {name} {way} {seed}")
    run = reference.set_out(step, start)
    log.unlink(missing_ok=True)
    outside = name.startswith((MODEL, DATA))
    path = (reference.folder if outside else run.path) / name
    whole = path.read_bytes()
    times = path.stat()
    path.write_bytes(spoiled(whole, way, chance))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    before = hashes(run.path)
    try:
        attempt = forked(["run", str(run.path), "--only", step], log)
        problems, came = _judged(reference, step, run, name, before, attempt)
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        if outside:
            path.write_bytes(whole)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    if problems:
        problems.append(f"{name} {way}")
    return Trial(FAULT, place, seed, "; ".join(problems), came)


def _judged(
    reference: Reference, step: str, run: RunDirectory, name: str, before: dict[str, str], attempt: Attempt
) -> tuple[list[str], str]:
    """(what is lost, what came of it)"""
    if attempt.wait() == 0:
        unread = "" if name.startswith(f"{step}/") else name  # where this step does not read it, it stays as it is
        differing = differences(reference, step, run, unread)
        if not differing:
            return [*drafts(run), *users_files_lost(run)], "made no difference"
        if step == "report" and not claimed_more(reference, run):
            return users_files_lost(run), "shown as a gap"
        if _is_an_edit(reference, step, run, name):
            return users_files_lost(run), "read as an edit"
        return [f"not noticed: {', '.join(differing)}"], ""
    owner = name.split("/")[0]
    known = [
        name.rsplit("/", 1)[-1],
        *([owner] if owner in STEPS else []),
        *([MODEL, "prepare"] if name.startswith(MODEL) else []),
    ]
    problems = refused_clearly(attempt, *known)
    after = hashes(run.path)
    changed = [n for n in before if before[n] != after.get(n) and not n.startswith((*OWN, f"{step}/"))]
    if changed and name != "plan.json":
        problems.append(f"changed besides: {', '.join(changed[:3])}")
    return [*problems, *users_files_lost(run)], "refused in a sentence"


def _is_an_edit(reference: Reference, step: str, run: RunDirectory, name: str) -> bool:
    """Whether the file is the user's own, and what it says now is as good as what it said: nobody can tell.

    The plan is one all the time; base model and data until they are prepared and known by their hash.
    """
    if name == "plan.json":
        return _plan_text(run.path) != _plan_text(reference.before(step))
    return step == "prepare" and name.startswith((MODEL, DATA))


def _plan_text(folder: Path) -> str:
    try:
        return json.dumps(RunDirectory(folder).plan().model_dump(mode="json"))
    except UserError:
        return ""


def spoiled(content: bytes, way: str, chance: random.Random) -> bytes:
    if not content:
        return b"\x00"
    if way == CUT:
        return content[: chance.randrange(len(content))]
    found = bytearray(content)
    for place in chance.sample(range(len(found)), min(len(found), chance.choice((1, 1, 3)))):
        found[place] ^= 1 << chance.randrange(8)
    return bytes(found)


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
