"""The base model as GGUF, made when somebody wants to talk to it, for comparison with what it became."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..cancel import CancelToken
from ..events import Event, Progress
from ..failures import UserError
from ..gguf_export.draft import Source, expected_bytes
from ..gguf_export.metadata import Metadata
from ..gguf_export.model_folder import ModelFolder
from ..gguf_export.recipe import RECIPES
from ..gguf_export.vocabulary import read_vocabulary
from ..gguf_export.writer import write_gguf
from ..models.identity import BaseModel, read_base
from ..resources import cache_folder
from ..run_directory import RunDirectory, atomic

GB, MIB = 1e9, 1 << 20
_POLL_SECONDS = 0.2


def ensure_base_gguf(run: RunDirectory, cancel: CancelToken, emit: Callable[[Event], None]) -> Path:
    """The base that this run prepared as F16 GGUF in the user's cache, which all runs share; converted now if need be.

    UserError if the disk has no room for it.
    """
    base = read_base(run)
    path = base_gguf(base)
    if path.is_file():
        return path
    folder = ModelFolder(base.path)
    vocabulary = read_vocabulary(base.path, folder.config.vocab_size)
    source = Source(folder, vocabulary, Metadata(base.path.name, base.license, None))
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path, cancel):
        if not path.is_file():
            _check_space(path.parent, expected_bytes(source, RECIPES["f16"]))
            with atomic(path) as draft:
                write_gguf(
                    draft,
                    source,
                    RECIPES["f16"],
                    cancel,
                    lambda d, t: emit(Progress(d / MIB, t / MIB, "MiB", "convert")),
                )
    return path


def base_gguf(base: BaseModel) -> Path:
    """Where that base is, or will be, as F16 GGUF."""
    return cache_folder() / "base-gguf" / f"{base.sha256}-F16.gguf"


@contextmanager
def _alone(path: Path, cancel: CancelToken) -> Iterator[None]:
    """Held by one program at a time; waiting for it can be cancelled."""
    lock = FileLock(path.with_name(path.name + ".lock"), timeout=_POLL_SECONDS)
    while not lock.is_locked:
        cancel.check()
        try:
            lock.acquire()
        except Timeout:
            continue
    try:
        yield
    finally:
        lock.release()


def _check_space(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise UserError(
            "The base model as GGUF needs {needed} GB in {folder}, but only {free} GB are free.",
            "Free some space there; AEGIS_CACHE names another folder.",
            needed=f"{n_bytes / GB:.2f}",
            free=f"{free / GB:.2f}",
            folder=folder,
        )
