"""A new run from the plan of another one: its settings and nothing of its results."""

from pathlib import Path

from .names import usable_name
from .plan import Plan, changed, get
from .run_directory import RunDirectory

ELSEWHERE = ("fuse.directory", "export.directory")


def duplicate(source: RunDirectory, target: Path) -> RunDirectory:
    """Write the plan of `source` as a new run at `target`; UsageError if its name cannot be or a run is there already.

    Folders outside the run get the new run's name, since a run replaces only what it made itself.
    """
    name = usable_name(target.name)
    return RunDirectory.create(target.with_name(name), own_folders(source.plan(), source.path.name, name))


def own_folders(plan: Plan, old: str, new: str) -> Plan:
    """The plan with a folder of its own for everything that goes outside the run: D:/gguf/old becomes D:/gguf/new."""
    found = {name: str(get(plan, name)) for name in ELSEWHERE}
    return changed(plan, {name: str(_named(Path(folder), old, new)) for name, folder in found.items() if folder})


def _named(folder: Path, old: str, new: str) -> Path:
    return folder.with_name(new) if folder.name == old else folder / new
