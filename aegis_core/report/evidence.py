"""The run's files as evidence: read strictly, and compared with the hashes that each step recorded when it finished."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..events import Artifact
from ..failures import UserError
from ..run_directory import Done, RunDirectory, sha256_of_file
from .phrases import Phrase, phrase


class Gap(Exception):
    """Evidence that is missing or damaged; `phrase` says which."""

    def __init__(self, what: Phrase) -> None:
        super().__init__(what.english)
        self.phrase = what


class Evidence:
    """`before_hash` is called before each file that is hashed, so that long work can be stopped."""

    def __init__(self, run: RunDirectory, before_hash: Callable[[], None] = lambda: None) -> None:
        self.run = run
        self._before_hash = before_hash
        self._hashes: dict[Path, str] = {}

    def path(self, step: str, name: str) -> Path:
        return self.run.step_folder(step) / name

    def present(self, path: Path) -> Path:
        """The path itself; Gap if there is no such file."""
        if not path.is_file():
            raise Gap(phrase("{file} is missing", file=self.shown(path)))
        return path

    def json(self, step: str, name: str) -> Any:
        """Content of a step's JSON file; Gap if it is missing or damaged."""
        return self.json_at(self.path(step, name))

    def json_at(self, path: Path) -> Any:
        try:
            return json.loads(self.present(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise Gap(phrase("{file} is damaged", file=self.shown(path))) from error

    def rows(self, step: str, name: str) -> list[dict[str, Any]]:
        """Rows of a JSON-lines file, every line of it; Gap if one is missing or damaged."""
        path = self.present(self.path(step, name))
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        except ValueError as error:
            raise Gap(phrase("{file} is damaged", file=self.shown(path))) from error
        if not all(isinstance(row, dict) for row in rows):
            raise Gap(phrase("{file} is damaged", file=self.shown(path)))
        return rows

    def done(self, step: str) -> Done | None:
        """The step's marker; None if the step never finished or its marker is damaged."""
        try:
            return self.run.done(step)
        except UserError:
            return None

    def sha256(self, path: Path) -> str:
        """The file's hash now, computed once."""
        path = path.resolve()
        if path not in self._hashes:
            self._before_hash()
            self._hashes[path] = sha256_of_file(path)
        return self._hashes[path]

    def recorded(self, step: str) -> dict[Path, Artifact]:
        """What the step left behind according to its done.json."""
        done = self.done(step)
        return {self.run.output_path(a).resolve(): a for a in done.outputs} if done else {}

    def changes(self, step: str, *paths: Path) -> list[Phrase]:
        """One sentence for each of these files that is missing, was not recorded, or differs from its recorded hash."""
        if self.done(step) is None:
            return [phrase("the step {step} did not finish", step=step)]
        recorded, problems = self.recorded(step), []
        for path in paths:
            if not path.is_file():
                problems.append(phrase("{file} is missing", file=self.shown(path)))
            elif path.resolve() not in recorded:
                problems.append(phrase("{file} was not recorded by its step", file=self.shown(path)))
            elif self.sha256(path) != recorded[path.resolve()].sha256:
                problems.append(phrase("{file} is not the file its step finished with", file=self.shown(path)))
        return problems

    def compared(self, artifact: Artifact) -> str:
        """same, changed or missing: the file as it lies there now against what its step recorded."""
        path = self.run.output_path(artifact).resolve()
        if not path.is_file():
            return "missing"
        same = path.stat().st_size == artifact.bytes and self.sha256(path) == artifact.sha256
        return "same" if same else "changed"

    def shown(self, path: Path) -> str:
        """Short where the file lies in the run, whole elsewhere."""
        return path.relative_to(self.run.path).as_posix() if path.is_relative_to(self.run.path) else str(path)
