"""`python -m benchmarks.faults [--times 50] [--only NAME …] [--write docs/faults.md]`: what befalls a run, what it
costs.

Each fault is made to happen, seeded, to a whole ritual of nine steps on a tiny model; the table counts how
often it was tried, survived and lost. `--short` is the form for every change: three kills in each step and a
little of everything else. `--keep FOLDER` keeps every trial there; faults that are complete there are not tried
again. Exit 1 if anything was lost.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from . import engine
from .catalogue import FAULTS, Dose
from .judge import Trial
from .ritual import make_reference
from .table import markdown


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--times", type=int, default=50, help="how often a fault befalls each place")
    parser.add_argument("--short", action="store_true", help="three kills in each step, little of the rest")
    parser.add_argument("--only", nargs="+", choices=list(FAULTS), default=list(FAULTS), metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the trials here and take up those kept")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table to this file")
    options = parser.parse_args()
    dose = Dose.short(options.seed) if options.short else Dose(options.times, options.seed)
    with tempfile.TemporaryDirectory(prefix="aegis-faults-") as folder:
        keep = options.keep or Path(folder) / "trials"
        keep.mkdir(parents=True, exist_ok=True)
        if missing := [name for name in options.only if not (keep / f"{name}.jsonl").is_file()]:
            try_out(missing, dose, Path(folder), keep)
        kept = {name: (keep / f"{name}.jsonl").read_text(encoding="utf-8").splitlines() for name in options.only}
    trials = {name: [Trial(**json.loads(line)) for line in lines] for name, lines in kept.items()}
    command = f"python -m benchmarks.faults {'--short' if options.short else f'--times {options.times}'}"
    command += " --keep FOLDER" if options.keep else ""
    page = markdown({FAULTS[name].FAULT: found for name, found in trials.items()}, hows(options.only), command)
    if options.write:
        options.write.write_text(page, encoding="utf-8", newline="\n")
    print(page)
    return 1 if any(trial.lost for found in trials.values() for trial in found) else 0


def hows(names: list[str]) -> dict[str, str]:
    return {FAULTS[name].FAULT: FAULTS[name].HOW for name in names}


def try_out(names: list[str], dose: Dose, folder: Path, keep: Path) -> None:
    """Make every fault happen; each one's trials are kept when all of them were made."""
    engine.load()
    reference = make_reference(folder / "ritual", folder / "reference.log")
    for name in names:
        began, draft = time.monotonic(), keep / f"{name}.part"
        with draft.open("w", encoding="utf-8") as file:
            for trial in FAULTS[name].trials(reference, dose, folder / f"{name}.log"):
                file.write(trial.line() + "\n")
                file.flush()
                if trial.lost:
                    print(f"LOST {name}, {trial.place}, {trial.way}, seed {trial.seed}: {trial.lost}", file=sys.stderr)
        draft.replace(keep / f"{name}.jsonl")
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
