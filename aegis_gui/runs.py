"""The runs on this computer, as the list of runs shows them. Qt-free."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from time import localtime, strftime

from aegis_core import freshness
from aegis_core.failures import UserError
from aegis_core.freshness import State
from aegis_core.run_directory import RunDirectory, read_json


@dataclass(frozen=True)
class RunCard:
    """`problem` is the error that keeps a run from being opened; then the other figures are empty."""

    path: Path
    model: str = ""
    n_done: int = 0
    n_steps: int = 0
    stale: bool = False
    passed: int | None = None
    n_indicators: int = 0
    changed_at: float = 0.0
    problem: UserError | None = None


def known_runs(folder: Path, recent: Iterable[Path]) -> list[RunCard]:
    """Every run in the folder and among the recent ones, newest first."""
    found = {path.parent.resolve() for path in folder.glob("*/plan.json")} if folder.is_dir() else set()
    found |= {path.resolve() for path in recent if (path / "plan.json").is_file()}
    return sorted(map(run_card, found), key=lambda card: -card.changed_at)


def run_card(path: Path) -> RunCard:
    run = RunDirectory(path)
    changed_at = max(p.stat().st_mtime for p in (run.plan_path, run.events_path) if p.is_file())
    try:
        plan = run.plan()
        states = freshness.states(run, plan)
    except UserError as error:
        return RunCard(path, changed_at=changed_at, problem=error)
    counted = [state for state in states.values() if state is not State.DISABLED]
    passed, n_indicators = _indicators(path / "report.json")
    return RunCard(
        path,
        plan.model.source,
        counted.count(State.DONE),
        len(counted),
        State.STALE in counted,
        passed,
        n_indicators,
        changed_at,
    )


def fresh_name(folder: Path, stem: str) -> str:
    """A name no folder has yet: stem-2026-11-23, then stem-2026-11-23-2 and so on."""
    name = f"{stem}-{strftime('%Y-%m-%d', localtime())}"
    number = 2
    candidate = name
    while (folder / candidate).exists():
        candidate, number = f"{name}-{number}", number + 1
    return candidate


def _indicators(path: Path) -> tuple[int | None, int]:
    if not path.is_file():
        return None, 0
    try:
        rows = read_json(path)["indicators"].values()
        return sum(row["status"] == "pass" for row in rows), len(rows)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, 0
