"""The faults by name, and how much of each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from . import (
    clock,
    damage,
    disks,
    flooded,
    hub,
    kills,
    locked_folder,
    memory,
    older,
    ollama,
    own_files,
    power,
    together,
    window_killed,
)
from .dose import Dose
from .judge import Trial
from .ritual import Reference


class Fault(Protocol):
    """`FAULT` is what the table calls it; `HOW` says how it is made and what that does not show."""

    FAULT: str
    HOW: str

    def trials(self, reference: Reference, dose: Dose, log: Path) -> Iterator[Trial]: ...


FAULTS: dict[str, Fault] = {
    "kill": kills,
    "damage": damage,
    "own files": own_files,
    "disk": disks,
    "power": power,
    "together": together,
    "memory": memory,
    "older": older,
    "hub": hub,
    "ollama": ollama,
    "read-only": locked_folder,
    "window": window_killed,
    "clock": clock,
    "events": flooded,
}
