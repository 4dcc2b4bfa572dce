"""Whether an engine is at work right now: an environment is not changed under a running step or conversation."""

import os
from pathlib import Path

import psutil

from ..failures import UserError
from .place import Place


def at_work(place: Place) -> list[int]:
    """The processes that the environment's programs run in, this one and those that started it not counted."""
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    house = place.environment.absolute()
    found = psutil.process_iter(["pid", "exe", "cmdline"])
    # By its command line too: on Linux the environment's Python is a link to one elsewhere.
    return [
        process.pid
        for process in found
        if process.pid not in ours
        and any(_lies_in(house, name) for name in (process.info["exe"], *(process.info["cmdline"] or ())[:1]))
    ]


def refuse_while_at_work(place: Place) -> None:
    """UserError while a process of the engine runs, in whichever window or terminal it was started."""
    if pids := at_work(place):
        raise UserError(
            "The engine is at work: a step or a conversation uses it, here or in another window or terminal "
            "(process {pids}).",
            "Wait until it is done or end it there, then try again; what was fetched is kept.",
            pids=", ".join(map(str, pids)),
        )


def _lies_in(house: Path, name: str | None) -> bool:
    path = Path(name) if name else None
    return path is not None and path.is_absolute() and (house in path.parents or house.resolve() in path.parents)
