"""What has to be known before a run is deleted: whether it is in use, and what it left elsewhere and will stay."""

from dataclasses import dataclass
from pathlib import Path

from .duplicate import ELSEWHERE
from .failures import UserError
from .plan import get
from .run_directory import RunDirectory


@dataclass(frozen=True)
class Removal:
    """`n_bytes` is what lies in the run's own folder; `elsewhere` are its folders outside, which are left alone."""

    path: Path
    n_bytes: int
    elsewhere: tuple[Path, ...]


def removal(path: Path) -> Removal:
    """What deleting this run means; UserError if a program is working on it right now."""
    run = RunDirectory(path)
    refuse_in_use(run)
    sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    return Removal(path, sum(sizes), folders_elsewhere(run))


def refuse_in_use(run: RunDirectory) -> None:
    """UserError if a program is working on the run."""
    if run.is_locked():
        raise UserError(
            "A step of {name} is running, so the run cannot be deleted.",
            "Stop it first, or wait until it is done.",
            name=run.path.name,
        )


def folders_elsewhere(run: RunDirectory) -> tuple[Path, ...]:
    """Folders of the plan outside the run that exist; none where the plan cannot be read."""
    try:
        plan = run.plan()
    except (UserError, OSError):
        return ()
    chosen = [Path(str(get(plan, name))).expanduser() for name in ELSEWHERE if get(plan, name)]
    outside = [folder for folder in chosen if not folder.resolve().is_relative_to(run.path.resolve())]
    return tuple(dict.fromkeys(folder for folder in outside if folder.is_dir()))
