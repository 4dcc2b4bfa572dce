"""One ritual on disk: layout, whole-or-nothing writes, the lock, done markers, staleness.

A step is fresh when its done.json exists, the settings it depends on and the results it was fed are still the
same, and its outputs are still there at their size. `aegis verify` hashes them as well.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from . import __version__
from . import plan as plans
from .events import Artifact
from .failures import UsageError, UserError
from .plan import Plan

FORMAT = 1


@dataclass(frozen=True)
class Done:
    """What done.json says: the digest of the settings, of each input step, and the outputs with their hashes.

    Paths of outputs are relative to the run directory (POSIX form) where they lie in it, absolute elsewhere.
    """

    step: str
    settings_sha256: str
    inputs: dict[str, str]
    outputs: tuple[Artifact, ...]
    seconds: float
    finished_at: float
    version: str = __version__
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """Changes when settings or outputs change, not when the step merely ran again with the same result."""
        return sha256_of_json([self.settings_sha256, [[a.path, a.bytes, a.sha256] for a in self.outputs]])


class RunDirectory:
    """RUN_DIR and the files in it; creating one object does not touch the disk."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path).expanduser().absolute()

    @classmethod
    def create(cls, path: Path, plan: Plan) -> "RunDirectory":
        """A new run with its plan written; UsageError if a run is already there."""
        run = cls(path)
        if run.plan_path.exists():
            raise UsageError(
                "There is already a run in {path}.", "Choose another folder, or continue with aegis run.", path=run.path
            )
        run.path.mkdir(parents=True, exist_ok=True)
        run.write_plan(plan)
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing run; UsageError if there is none."""
        run = cls(path)
        if not run.plan_path.is_file():
            raise UsageError(
                "There is no run in {path}: plan.json is missing.", "Start one with aegis new.", path=run.path
            )
        return run

    @property
    def plan_path(self) -> Path:
        return self.path / "plan.json"

    @property
    def events_path(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def stderr_path(self) -> Path:
        return self.path / "stderr.log"

    def step_folder(self, step: str) -> Path:
        return self.path / step

    def previous_folder(self, step: str) -> Path:
        """Where an outdated result of the step waits until its successor is complete."""
        return self.path / "previous" / step

    def begun(self, step: str) -> bool:
        """Whether an attempt at the step, finished or not, lies there."""
        return (self.step_folder(step) / "begun.json").is_file()

    def plan(self) -> Plan:
        return plans.loads(self.plan_path.read_text(encoding="utf-8-sig"), self.plan_path)

    def write_plan(self, plan: Plan) -> None:
        write_text(self.plan_path, plans.dumps(plan))

    def done(self, step: str) -> Done | None:
        """The step's marker, or None if it never finished; UserError if the marker is damaged."""
        path = self.step_folder(step) / "done.json"
        if not path.is_file():
            return None
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            return Done(**{**row, "outputs": tuple(Artifact(**a) for a in row["outputs"])})
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                "{path} is damaged: {problem}.", "Delete that file and run the step again.", path=path, problem=error
            ) from error

    def write_done(
        self, step: str, settings_sha256: str, inputs: dict[str, str], outputs: list[Artifact], seconds: float
    ) -> Done:
        recorded = {a.path: a for a in (self._recorded(artifact) for artifact in outputs)}
        done = Done(step, settings_sha256, inputs, tuple(recorded.values()), seconds, time.time())
        row = asdict(done) | {"outputs": [{"path": a.path, "bytes": a.bytes, "sha256": a.sha256} for a in done.outputs]}
        self.step_folder(step).mkdir(parents=True, exist_ok=True)
        write_json(self.step_folder(step) / "done.json", row)
        return done

    def output_path(self, artifact: Artifact) -> Path:
        return self.path / artifact.path

    def missing_outputs(self, done: Done) -> list[Path]:
        """Outputs that are gone or have another size than recorded."""
        paths = [(self.output_path(a), a.bytes) for a in done.outputs]
        return [path for path, size in paths if not path.is_file() or path.stat().st_size != size]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held while a program works on this run; UserError at once if another one does."""
        lock = FileLock(self.path / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                "Another AEGIS is working on {path}.", "Wait until it has finished, or stop it there.", path=self.path
            ) from None
        try:
            yield
        finally:
            lock.release()

    def is_locked(self) -> bool:
        """Whether some program works on this run right now."""
        if not (self.path / "lock").exists():
            return False
        try:
            with self.lock():
                return False
        except UserError:
            return True

    def _recorded(self, artifact: Artifact) -> Artifact:
        path = Path(artifact.path)
        inside = path.is_relative_to(self.path.resolve())
        name = path.relative_to(self.path.resolve()).as_posix() if inside else str(path)
        return Artifact(name, artifact.bytes, artifact.sha256 or sha256_of_file(path))


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a draft that takes its name only when complete and on disk: no reader ever sees half a file."""
    draft = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield draft
        sync(draft)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    draft.replace(path)
    sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty draft folder that replaces `path` only when every file in it is complete and on disk."""
    draft = path.with_name(path.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    for file in sorted(p for p in draft.rglob("*") if p.is_file()):
        sync(file)
    old = path.with_name(path.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.replace(old)
    draft.replace(path)
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    with atomic(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def sync(path: Path) -> None:
    """Force a file's bytes to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Force a rename to the disk; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
