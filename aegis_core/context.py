"""What a step is given besides the plan: its run, its voice, its ear."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from .cancel import CancelToken
from .events import Artifact, Event
from .run_directory import RunDirectory


@dataclass(frozen=True)
class StepContext:
    """`emit` stamps time and stage; artifacts that pass through it become the step's recorded outputs."""

    run: RunDirectory
    stage: str
    sink: Callable[[Event], None]
    cancel: CancelToken
    artifacts: list[Artifact] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """RUN_DIR/<step>, made on demand."""
        folder = self.run.step_folder(self.stage)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def emit(self, event: Event) -> None:
        stamped = replace(event, at=time.time(), stage=self.stage)
        if isinstance(stamped, Artifact):
            self.artifacts.append(stamped)
        self.sink(stamped)

    def artifact(self, path: Path, sha256: str = "", *, evidence: bool = False) -> None:
        """Declare a finished file as an output of this step; `evidence` is for the run log, no step builds on it."""
        self.emit(Artifact(str(path.resolve()), path.stat().st_size, sha256, evidence))
