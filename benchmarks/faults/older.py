"""Runs that earlier versions of AEGIS made, opened by this one.

The versions come out of the repository's own history (`git archive`) and run their own ritual with their own code.
"""

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from aegis_core.run_directory import RunDirectory

from .damage import hashes
from .dose import Dose
from .engine import ROOT, forked
from .judge import Trial, false_claims, refused_clearly, users_files_lost
from .ritual import DATA, MODEL, USER_FILES, Reference

FAULT = "a run of an older version"
HOW = (
    "Versions from the repository's history make a run with their own code, whole or up to the training; today's "
    "program reads it (status, verify) and goes on with it. It must come to its end or say in one sentence why not, "
    "keep what is the user's, claim nothing that is not there, and delete no older result before a newer one stands "
    "in its place."
)
VERSIONS = {
    "3d260d8": "the first whole ritual",
    "0cac89c": "the full training core",
    "823ec13": "fusion and export, verified tensor by tensor",
    "b3d2ce0": "chat, judge and searches",
    "d636782": "the first with a table of faults",
}
SETTINGS = (
    *("data.sequence_length=32", "train.steps=6", "train.evaluate_steps=2", "train.checkpoint_steps=2", "lora.rank=4"),
    *("train.warmup_steps=1", "chat.questions=en", "chat.backend=embedded", "chat.n_questions=2", "chat.max_tokens=24"),
)


def trials(reference: Reference, dose: Dose, log: Path) -> Iterator[Trial]:
    known = [version for version in VERSIONS if _is_in_history(version)]
    for number, version in enumerate(known[-1:] if dose.is_short else known):
        for last in ("train",) if dose.is_short else ("report", "train"):
            problems, came = _trial(reference, version, last, log)
            yield Trial(FAULT, f"{version}, {VERSIONS[version]}", number, "; ".join(problems), f"{came} after {last}")


def _is_in_history(version: str) -> bool:
    command = ["git", "-C", str(ROOT), "cat-file", "-e", f"{version}^{{commit}}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _trial(reference: Reference, version: str, last: str, log: Path) -> tuple[list[str], str]:
    run = _made_by(reference, version, last, log)
    finished = {name: done for name in ("prepare", "train") if (done := run.done(name))}
    before = hashes(run.path)
    problems: list[str] = []
    for command in (["status", str(run.path)], ["verify", str(run.path)]):
        log.unlink(missing_ok=True)
        if "Traceback" in (said := _said(command, log)) or "Something unexpected" in said:
            problems.append(f"{command[0]}: {said[-300:]}")
    if {name: sha for name, sha in hashes(run.path).items() if name in before} != before:
        problems.append("looking at it changed it")
    log.unlink(missing_ok=True)
    attempt = forked(["run", str(run.path)], log)
    came = "gone on with"
    if attempt.wait() != 0:
        problems, came = [*problems, *refused_clearly(attempt)], "refused in a sentence"
        kept = hashes(run.path)
        problems += [
            f"{artifact.path} is gone"
            for done in finished.values()
            for artifact in done.outputs
            if artifact.sha256 not in kept.values()
        ]
    return [*problems, *false_claims(run), *users_files_lost(run)], came


def _said(command: list[str], log: Path) -> str:
    attempt = forked(command, log)
    attempt.wait()
    return attempt.said()


def _made_by(reference: Reference, version: str, last: str, log: Path) -> RunDirectory:
    tree, run = reference.folder / "older" / version, reference.folder / "older" / f"{version} {last}"
    if not tree.is_dir():
        packed = subprocess.run(["git", "-C", str(ROOT), "archive", version], capture_output=True, check=True).stdout
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(tree, filter="data")
    sources = (f"model.source={reference.folder / MODEL}", f"data.source={reference.folder / DATA}")
    settings = [word for setting in (*sources, *SETTINGS) for word in ("--set", setting)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    for words in (["new", str(run), *settings], ["run", str(run), "--to", last]):
        with log.open("ab") as out:
            command = [sys.executable, "-m", "aegis_core", *words]
            subprocess.run(
                command, env=environment, cwd=tree, stdout=out, stderr=out, stdin=subprocess.DEVNULL, check=True
            )
    for name, text in USER_FILES.items():
        if text:
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_text(text, encoding="utf-8")
    return RunDirectory(run)
