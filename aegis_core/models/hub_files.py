"""Bringing a model's files from the hub into the hub's own cache on this machine, which other programs share.

The library throws an unfinished file away. Here a file grows in a draft beside its place; a later call continues it.
"""

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.file_download import are_symlinks_supported, hf_hub_url, http_get, repo_folder_name
from huggingface_hub.utils import build_hf_headers, disable_progress_bars

from ..cancel import CancelToken
from ..run_directory import rename
from .hub import HubModel, RemoteFile
from .hub_errors import HUB_ERRORS, HubUnreachable, refusal

_POLL_SECONDS = 0.5


def fetch(
    model: HubModel,
    files: Iterable[RemoteFile],
    cancel: CancelToken,
    on_bytes: Callable[[int], None] = lambda n_bytes: None,
) -> Path:
    """Bring files here, continuing what an earlier call left unfinished, and return the folder that holds them.

    `on_bytes` hears after every piece how many bytes of all `files` are here. UserError as `hub_errors.refusal` says.
    """
    folder, n_before = snapshot_folder(model), 0
    for file in files:
        cancel.check()
        if not (folder / file.name).is_file():
            _fetch(model, file, cancel, _added_to(n_before, on_bytes))
        n_before += file.n_bytes
        on_bytes(n_before)
    return folder


def remember_revision(model: HubModel) -> None:
    """Note in the cache which commit the revision means: the way back to these files when offline."""
    _link(model, "config.json", model.revision)


def missing_bytes(model: HubModel, files: Iterable[RemoteFile]) -> int:
    """How much of `files` is still to be fetched."""
    return sum(file.n_bytes - _draft_bytes(model, file) for file in files if not _is_here(model, file))


def snapshot_folder(model: HubModel) -> Path:
    """Where the cache shows the files of this very commit."""
    return _storage(model) / "snapshots" / model.commit


def cached_copy(source: str, revision: str) -> Path | None:
    """The folder of an earlier fetch of this revision, as far as it is here; None if nothing is."""
    config = try_to_load_from_cache(source, "config.json", revision=revision)
    return Path(config).parent if isinstance(config, str) else None


def forget(file: Path) -> None:
    """Remove a damaged file from the cache, so that it is fetched anew."""
    file.resolve().unlink(missing_ok=True)
    file.unlink(missing_ok=True)


class _Draft(io.BufferedWriter):
    """A file that listens: each piece may be the last one wanted, and is counted."""

    def __init__(self, path: Path, cancel: CancelToken, on_bytes: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path, "r+b" if path.exists() else "w+b"))
        self.seek(0, io.SEEK_END)
        self._cancel, self._on_bytes = cancel, on_bytes

    def write(self, piece: Any) -> int:
        self._cancel.check()
        n_bytes = super().write(piece)
        self._on_bytes(self.tell())
        return n_bytes


def _fetch(model: HubModel, file: RemoteFile, cancel: CancelToken, on_bytes: Callable[[int], None]) -> None:
    draft = _draft(model, file)
    lock = Path(constants.HF_HUB_CACHE, ".locks", _storage(model).name, f"{file.etag}.aegis.lock")
    for folder in (draft.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with _Patient(FileLock(lock), cancel):
        if not _is_here(model, file):  # or another run has fetched it meanwhile
            _continue(model, file, draft, cancel, on_bytes)
            place = _blob(model, file)
            # Where the library cannot link, it would copy gigabytes out of blobs.
            if not are_symlinks_supported(constants.HF_HUB_CACHE):
                place = snapshot_folder(model) / file.name
                place.parent.mkdir(parents=True, exist_ok=True)
            rename(draft, place)
    _link(model, file.name, model.commit)


def _continue(
    model: HubModel, file: RemoteFile, path: Path, cancel: CancelToken, on_bytes: Callable[[int], None]
) -> None:
    if _draft_bytes(model, file) > file.n_bytes:
        path.unlink()
    disable_progress_bars("huggingface_hub.http_get")
    try:
        with _Draft(path, cancel, on_bytes) as draft:
            http_get(
                hf_hub_url(model.source, file.name, revision=model.commit),
                draft,
                resume_size=draft.tell(),
                headers=build_hf_headers(),
                expected_size=file.n_bytes,
                displayed_filename=file.name,
            )
    except HUB_ERRORS as error:
        raise refusal(error, model.source, model.commit) from error
    except OSError as error:
        if error.errno is not None:
            raise  # the disk's fault, not the hub's
        raise HubUnreachable(  # the library found another length than the hub had promised
            "{name} of {source} came incomplete.",
            "Run this step again; what was fetched so far is kept.",
            name=file.name,
            source=model.source,
        ) from error


def _link(model: HubModel, name: str, revision: str) -> None:
    """Let the library enter a file that is here into its snapshot (or fetch it, should it be gone)."""
    try:
        hf_hub_download(model.source, name, revision=revision)
    except HUB_ERRORS as error:
        cause = error.__cause__  # the library wraps what really happened
        raise refusal(cause if isinstance(cause, HUB_ERRORS) else error, model.source, revision) from error


class _Patient:
    """Hold a lock that another run may have for an hour; stop waiting as soon as the user wants to stop."""

    def __init__(self, lock: FileLock, cancel: CancelToken) -> None:
        self._lock, self._cancel = lock, cancel

    def __enter__(self) -> None:
        while True:
            self._cancel.check()
            try:
                self._lock.acquire(timeout=_POLL_SECONDS)
                return
            except Timeout:
                continue

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def _added_to(n_before: int, on_bytes: Callable[[int], None]) -> Callable[[int], None]:
    return lambda n_bytes: on_bytes(n_before + n_bytes)


def _is_here(model: HubModel, file: RemoteFile) -> bool:
    return (snapshot_folder(model) / file.name).is_file() or _blob(model, file).is_file()


def _storage(model: HubModel) -> Path:
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=model.source, repo_type="model")


def _blob(model: HubModel, file: RemoteFile) -> Path:
    return _storage(model) / "blobs" / file.etag


def _draft(model: HubModel, file: RemoteFile) -> Path:
    return _storage(model) / "blobs" / f"{file.etag}.aegis.incomplete"


def _draft_bytes(model: HubModel, file: RemoteFile) -> int:
    draft = _draft(model, file)
    return draft.stat().st_size if draft.is_file() else 0
