"""10,000 events a second: none may be lost, the window must turn, its memory stay bounded."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .dose import Dose
from .engine import ROOT
from .judge import Trial
from .ritual import Reference

FAULT = "10,000 events a second"
HOW = (
    "A real child sends them for a minute (short form: three seconds) through the engine's session; a real window, "
    "offscreen, shows them on its training page. Lost means: an event missing in window or journal, more than 1 kB of "
    "memory for each event, or a window whose loop stands still for over two seconds."
)
MOST_BYTES_EACH, LONGEST_GAP_SECONDS = 1000, 2.0


def trials(reference: Reference, dose: Dose, log: Path) -> Iterator[Trial]:
    seconds = 3 if dose.is_short else 60
    run = reference.set_out("train")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AEGIS_PREFERENCES": str(log.with_suffix(".ini"))}
    command = [sys.executable, "-m", "benchmarks.faults.flood", str(run.path), str(seconds)]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=900, check=False
    )
    if done.returncode != 0:
        yield Trial(FAULT, "window and child", dose.seed, f"exit {done.returncode}: {done.stderr[-500:]}")
        return
    found = json.loads(done.stdout.splitlines()[-1])
    problems = []
    if not (found["sent"] == found["arrived"] == found["in_journal"] and found["in_order"]):
        problems.append(f"{found['sent']} sent, {found['arrived']} arrived, {found['in_journal']} in the journal")
    if found["grown_mb"] * 1e6 > 50e6 + MOST_BYTES_EACH * found["sent"]:
        problems.append(f"the window grew by {found['grown_mb']:.0f} MB")
    if found["longest_gap_seconds"] > LONGEST_GAP_SECONDS:
        problems.append(f"the window stood still for {found['longest_gap_seconds']:.1f} s")
    rate = found["sent"] / found["sending_seconds"]
    way = f"{found['sent']:,} events at {rate:,.0f}/s, {found['grown_mb']:.0f} MB, longest standstill "
    yield Trial(
        FAULT, "window and child", dose.seed, "; ".join(problems), f"{way}{found['longest_gap_seconds']:.2f} s:"
    )
