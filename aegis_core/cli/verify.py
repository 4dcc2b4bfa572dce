"""`aegis verify`: is everything on disk still what the finished steps recorded, and does the proof still hold?"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from .. import stdio
from ..events import Verdict
from ..failures import UserError
from ..pipeline import STEPS, State, states
from ..run_directory import RunDirectory, sha256_of_file
from .work import RunFolder


def verify(run_dir: RunFolder, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> int:
    """Hash every recorded file again and prove the fusion again; 1 if anything differs, naming it.

    Nothing is written into the run: what libraries print goes to a temporary file.
    """
    run = RunDirectory.open(run_dir)
    verdicts = []
    terminal = sys.stdout
    with tempfile.TemporaryDirectory(prefix="aegis-verify-") as aside, stdio.quiet(Path(aside) / "stderr.log"):
        for verdict in claims(run):
            verdicts.append(verdict)
            if not as_json:
                print(f"{verdict.status:<8}{verdict.name}{_difference(verdict)}", file=terminal, flush=True)
    if not verdicts:
        raise UserError(
            "No step of {path} is finished, so there is nothing to verify.", "Run it first: aegis run.", path=run.path
        )
    passed = all(verdict.status != "fail" for verdict in verdicts)
    if as_json:
        rows = [{"name": v.name, "status": v.status, "measured": v.measured, "expected": v.expected} for v in verdicts]
        print(json.dumps({"run": str(run.path), "passed": passed, "checks": rows}, indent=1))
    elif not passed:
        wrong = [verdict.name for verdict in verdicts if verdict.status == "fail"]
        print(f"{len(wrong)} of {len(verdicts)} differ: {', '.join(wrong)}.", file=sys.stderr)
        print("Run the step they belong to again: aegis run --only STEP --again.", file=sys.stderr)
    return 0 if passed else 1


def claims(run: RunDirectory) -> Iterator[Verdict]:
    """One verdict for each recorded file; where they all pass, what can be recomputed is recomputed too."""
    intact = True
    for verdict in recorded_files(run):
        intact = intact and verdict.status == "pass"
        yield verdict
    current = states(run, run.plan())
    for step, recomputed in (("fuse", _fusion), ("export", _export)):
        if intact and current[step] is State.DONE:
            yield from recomputed(run)
        elif current[step] is State.STALE:
            yield Verdict(step, "skipped", "made before a change", "an up-to-date step can be recomputed")


def recorded_files(run: RunDirectory) -> Iterator[Verdict]:
    """Whether each output of each finished step still has its recorded SHA-256."""
    for step in STEPS:
        done = run.done(step.id)
        for artifact in done.outputs if done else ():
            path = run.output_path(artifact)
            measured = sha256_of_file(path) if path.is_file() else "missing"
            status = "pass" if measured == artifact.sha256 else "fail"
            yield Verdict(f"{step.id}: {path}", status, measured, artifact.sha256)


def _fusion(run: RunDirectory) -> Iterator[Verdict]:
    from ..fusion import proof  # loads torch

    try:
        yield from proof.verify(run)
    except UserError as error:
        yield Verdict("fusion proof", "fail", error.reason, "the files it is computed from")


def _export(run: RunDirectory) -> Iterator[Verdict]:
    from ..steps import export  # loads torch

    try:
        yield from export.verify(run)
    except UserError as error:
        yield Verdict("GGUF files", "fail", error.reason, "the files they are compared with")


def _difference(verdict: Verdict) -> str:
    return f": {verdict.measured}, expected {verdict.expected}" if verdict.status == "fail" else ""
