"""Whether the base model is still the one of the training: hashed beside the merge, whose reading it shares."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType

from ..cancel import CancelToken
from ..failures import UserError
from ..models.identity import BaseModel
from ..models.weights import weight_files, weights_sha256

_LISTEN_SECONDS = 0.1


def check_base_unchanged(
    base: BaseModel, cancel: CancelToken, on_bytes: Callable[[int], None] = lambda n_bytes: None
) -> None:
    """UserError if the base model's files on the disk are no longer those of the training; reads them all."""
    if weights_sha256(base.path, cancel, on_bytes) != base.sha256:
        raise _changed(base)


class BaseHash:
    """While entered, the base's files are hashed in another thread; nothing made of them counts before `confirm`."""

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._stop = CancelToken()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="base-hash")

    def __enter__(self) -> "BaseHash":
        self._begun = _stamps(self._base.path)
        self._found = self._thread.submit(weights_sha256, self._base.path, self._stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.cancel()
        self._thread.shutdown()

    def confirm(self, cancel: CancelToken) -> None:
        """UserError unless the files are those of the training and nobody wrote to them since entering."""
        while not self._found.done():
            cancel.check()
            wait([self._found], _LISTEN_SECONDS)
        if self._found.result() != self._base.sha256 or _stamps(self._base.path) != self._begun:
            raise _changed(self._base)


def _stamps(folder: Path) -> list[tuple[str, int, int, int]]:
    facts = [(file.name, file.stat()) for file in weight_files(folder)]
    return [(name, fact.st_ino, fact.st_size, fact.st_mtime_ns) for name, fact in facts]


def _changed(base: BaseModel) -> UserError:
    return UserError(
        "The base model's files in {folder} have changed since training.",
        "Put the original files back, or run the steps again from the preparation on.",
        folder=base.path,
    )
