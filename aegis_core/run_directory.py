"""One ritual on disk: layout, whole-or-nothing writes, the lock, done markers, staleness.

A step is fresh when its done.json exists, the settings it depends on and the results it was fed are still the
same, and its outputs are still there at their size. `aegis verify` hashes them as well.
"""

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from . import __version__, platforms
from . import plan as plans
from .events import Artifact
from .failures import UsageError, UserError
from .plan import Plan
from .replacing import rename as rename
from .sealed import damaged, sealed, unsealed
from .sealed import sha256_of_json as sha256_of_json

FORMAT = 1
BEGUN = "begun.json"  # the settings and inputs of an attempt
BEFORE = "done.before.json"  # the marker of a finished result while something is added to it


@dataclass(frozen=True)
class Done:
    """What done.json says: the settings the result depends on, the digest of each input step, the hashed outputs.

    Paths of outputs are relative to the run directory (POSIX form) where they lie in it, absolute elsewhere.
    `extension` are settings that only add to the result, such as control runs.
    """

    step: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    outputs: tuple[Artifact, ...]
    seconds: float
    finished_at: float
    version: str = __version__
    format: int = FORMAT
    extension: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Changes when what later steps build on changes, not when the step merely ran again with the same result."""
        return sha256_of_json(
            [self.settings_sha256, [[a.path, a.bytes, a.sha256] for a in self.outputs if not a.evidence]]
        )

    @property
    def full_digest(self) -> str:
        """Changes with the evidence as well: what the run log depends on."""
        return sha256_of_json([self.digest, self.extension, [a.sha256 for a in self.outputs if a.evidence]])

    @property
    def settings_sha256(self) -> str:
        return sha256_of_json(self.settings)


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

    def identity(self) -> str:
        """A random name given to the run once; it moves with the folder and marks what the run writes elsewhere."""
        path = self.path / "id"
        if not path.is_file():
            write_text(path, secrets.token_hex(16) + "\n")
        return path.read_text(encoding="utf-8").strip()

    def begun(self, step: str) -> bool:
        """Whether an attempt at the step, finished or not, lies there."""
        return (self.step_folder(step) / BEGUN).is_file()

    def plan(self) -> Plan:
        """The plan as it lies on disk now; UsageError names the file and the first bad field."""
        return plans.loads(self.plan_path.read_text(encoding="utf-8-sig", errors="replace"), self.plan_path)

    def write_plan(self, plan: Plan) -> None:
        write_text(self.plan_path, plans.dumps(plan))

    def done(self, step: str) -> Done | None:
        """The step's marker, or None if it never finished; UserError if the marker is damaged or too new.

        While something is added to a finished result, and after a kill in that, it is that result's marker without the
        evidence, which is being written anew.
        """
        folder = self.step_folder(step)
        done = read_done(folder)
        before = None if done else read_done(folder, BEFORE)
        return replace(before, outputs=tuple(a for a in before.outputs if not a.evidence)) if before else done

    def write_done(
        self,
        step: str,
        settings: dict[str, Any],
        inputs: dict[str, str],
        outputs: list[Artifact],
        seconds: float,
        extension: dict[str, Any] | None = None,
    ) -> Done:
        """Hash what the step declared and leave its marker: from here on it counts as finished."""
        recorded = {a.path: a for a in (self._recorded(artifact) for artifact in outputs)}
        done = Done(step, settings, inputs, tuple(recorded.values()), seconds, time.time(), extension=extension or {})
        rows = [
            {"path": a.path, "bytes": a.bytes, "sha256": a.sha256} | ({"evidence": True} if a.evidence else {})
            for a in done.outputs
        ]
        row = asdict(done) | {"settings_sha256": done.settings_sha256, "outputs": rows}
        self.step_folder(step).mkdir(parents=True, exist_ok=True)
        write_json(self.step_folder(step) / "done.json", sealed(row))
        return done

    def name_of(self, path: Path) -> str:
        """A path as the run's files record it: relative to the run (POSIX form) inside it, absolute elsewhere.

        So a run keeps its own files when it is moved. `run.path / name` leads back.
        """
        resolved, home = path.resolve(), self.path.resolve()
        return resolved.relative_to(home).as_posix() if resolved.is_relative_to(home) else str(resolved)

    def output_path(self, artifact: Artifact) -> Path:
        return self.path / artifact.path

    def missing_outputs(self, done: Done) -> list[Path]:
        """Outputs that are gone or have another size than recorded."""
        paths = [(self.output_path(a), a.bytes) for a in done.outputs]
        return [path for path, size in paths if not path.is_file() or path.stat().st_size != size]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held while a program works on this run; UserError at once if another one does.

        The system lets go of it however the program ends. Half a second of patience, because is_locked() of another
        program holds it for a moment.
        """
        lock = FileLock(self.path / "lock", timeout=0.5)
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
        """Whether some program works on this run right now; nobody can in a folder that cannot be written."""
        if not (self.path / "lock").exists():
            return False
        try:
            with FileLock(self.path / "lock", timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def _recorded(self, artifact: Artifact) -> Artifact:
        """The output as it is now: a file may have grown since the step declared it."""
        path = (self.path / artifact.path).resolve()
        size = path.stat().st_size
        known = artifact.sha256 if size == artifact.bytes else ""
        return Artifact(self.name_of(path), size, known or sha256_of_file(path), artifact.evidence)


def read_done(folder: Path, name: str = "done.json") -> Done | None:
    """The marker in a step's folder, or None; UserError if it is damaged or of a newer format than this program's."""
    path = folder / name
    if not path.is_file():
        return None
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        if row.get("format", 1) > FORMAT:
            raise UserError(
                "{path} was written by AEGIS {version}, which is newer than this one.",
                "Update AEGIS.",
                path=path,
                version=row.get("version", "?"),
            )
        row = unsealed(row)
        known = {f.name: row[f.name] for f in fields(Done) if f.name in row}
        return Done(**known | {"outputs": tuple(Artifact(**a) for a in row["outputs"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged(path, error) from error


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a draft that takes its name only when complete and on disk: no reader ever sees half a file."""
    draft = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield draft
        sync(draft)
        rename(draft, path)
    finally:
        draft.unlink(missing_ok=True)  # still there only if it did not get its name
    sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty draft folder that replaces `path` only when every file in it is complete and on disk.

    A folder cannot be renamed over another: for an instant only NAME.old and NAME.part exist. A kill in that instant
    is mended by `settle`, at the next attempt at the latest.
    """
    settle(path)
    draft = path.with_name(path.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    with ExitStack() as on_failure:
        on_failure.callback(shutil.rmtree, draft, ignore_errors=True)
        yield draft
        _sync_tree(draft)
        on_failure.pop_all()  # complete: it stays
    old = path.with_name(path.name + ".old")
    if path.exists():
        rename(path, old)
    try:
        rename(draft, path)
    except (OSError, UserError):
        if old.exists():
            rename(old, path)
        raise
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def settle(path: Path) -> None:
    """Undo what a kill in the middle of `atomic_folder` left: afterwards `path` is whole, or was never there."""
    old, draft = path.with_name(path.name + ".old"), path.with_name(path.name + ".part")
    if old.exists() and not path.exists():
        rename(draft if draft.exists() else old, path)  # the old one only steps aside for a complete draft
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


def _sync_tree(folder: Path) -> None:
    for place in sorted(folder.rglob("*")):
        if place.is_dir():
            sync_folder(place)
        else:
            sync(place)
    sync_folder(folder)


def sync_folder(path: Path) -> None:
    """Force a rename to the disk; Windows has no such call and needs none."""
    platforms.here().sync_folder(path)


def sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
