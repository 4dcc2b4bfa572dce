"""What a step builds on is what its maker left: hashed before anything is built on it.

Sizes are looked at all the time; a byte that a disk, a cable or a hand has changed shows only here.
"""

import hashlib
from pathlib import Path

from .cancel import CancelToken
from .context import StepContext
from .events import Artifact, Progress
from .failures import UserError
from .freshness import Step, inputs_of
from .models.identity import read_base
from .plan import Plan
from .run_directory import Done, RunDirectory

LOAD_THE_BASE = ("search", "train", "chat")
READ_ITS_TOKENIZER = (*LOAD_THE_BASE, "fuse")
PROSE = ".md"  # a model card may be written on: nothing reads it
_BLOCK_BYTES = 1 << 24
_TOLD_BYTES = 1 << 26
_known: dict[tuple[str, int, int], str] = {}
"""(path, size, time) → SHA-256 of what this process has written or read itself: it is not read a second time."""


def require_unharmed(plan: Plan, step: Step, ctx: StepContext) -> None:
    """UserError that names the first file which is not what its step left, or a file of the base model that is not the
    one prepared.

    A step that shows gaps is not held up: it tells what is harmed.
    """
    names = () if step.shows_gaps else dict.fromkeys((*inputs_of(plan, step), *step.beside))
    wanted = [(name, ctx.run.output_path(a), a.sha256) for name in names for a in _built_on(ctx.run.done(name))]
    _require(wanted, ctx)
    known = ctx.run.step_folder("prepare") / "base.json"
    if step.id in READ_ITS_TOKENIZER and known.is_file():  # only now is it sure that it can be read
        base = read_base(ctx.run)
        weights = base.files if step.id in LOAD_THE_BASE else {}  # fuse hashes them while it reads them
        _require(
            [("prepare", base.path / name, sha256) for name, sha256 in {**base.companions, **weights}.items()], ctx
        )


def _require(wanted: list[tuple[str, Path, str]], ctx: StepContext) -> None:
    """`wanted` are maker, file and SHA-256."""
    unread = [row for row in wanted if not _is_known(row[1], row[2])]
    total, n_read, told = sum(path.stat().st_size for _, path, _ in unread if path.is_file()), 0, 0
    for name, path, sha256 in unread:
        if not path.is_file() or _sha256(path, ctx.cancel) != sha256:
            raise UserError("{path} is not as {step} left it.", "Run {step} again.", path=path, step=name)
        _known[_key(path)] = sha256
        n_read += path.stat().st_size
        if n_read - told >= _TOLD_BYTES:
            told = n_read
            ctx.emit(Progress(n_read, total, "bytes", "hash"))


def remember(run: RunDirectory, done: Done) -> None:
    """This process has just written and hashed these files."""
    for artifact in done.outputs:
        path = run.output_path(artifact)
        if path.is_file():
            _known[_key(path)] = artifact.sha256


def _built_on(done: Done | None) -> tuple[Artifact, ...]:
    return tuple(a for a in done.outputs if a.sha256 and not a.path.endswith(PROSE)) if done else ()


def _is_known(path: Path, sha256: str) -> bool:
    return path.is_file() and _known.get(_key(path)) == sha256


def _key(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def _sha256(path: Path, cancel: CancelToken) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            cancel.check()
            found.update(block)
    return found.hexdigest()
