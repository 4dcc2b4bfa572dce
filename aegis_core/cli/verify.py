"""`aegis verify`: is everything on disk still what the finished steps recorded?"""

import json
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console

from ..events import Verdict
from ..pipeline import STEPS
from ..run_directory import RunDirectory, sha256_of_file
from .tables import indicator_table
from .work import RunFolder


def verify(run_dir: RunFolder, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> int:
    """Hash every recorded file again; 1 if anything differs, naming it."""
    run = RunDirectory.open(run_dir)
    verdicts = list(recorded_files(run))
    if as_json:
        rows = [{"name": v.name, "status": v.status, "measured": v.measured, "expected": v.expected} for v in verdicts]
        print(json.dumps({"run": str(run.path), "passed": _passed(verdicts), "checks": rows}, indent=1))
    else:
        rows_by_name = {v.name: {"status": v.status, "measured": v.measured, "expected": v.expected} for v in verdicts}
        Console().print(indicator_table(rows_by_name))
    return 0 if _passed(verdicts) else 1


def recorded_files(run: RunDirectory) -> Iterator[Verdict]:
    """One verdict for each output of each finished step."""
    for step in STEPS:
        done = run.done(step.id)
        for artifact in done.outputs if done else ():
            path = run.output_path(artifact)
            if not path.is_file():
                yield Verdict(str(path), "fail", "missing", artifact.sha256)
                continue
            measured = sha256_of_file(path)
            yield Verdict(str(path), "pass" if measured == artifact.sha256 else "fail", measured, artifact.sha256)


def _passed(verdicts: list[Verdict]) -> bool:
    return all(verdict.status != "fail" for verdict in verdicts)
