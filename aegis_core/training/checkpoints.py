"""Checkpoints that are whole or not there: written aside, hashed, renamed, newest first on resume."""

import re
import shutil
from pathlib import Path

from ..run_directory import read_json, rename, sha256_of_file, sync, sync_folder, write_json
from .metrics import METRICS

MANIFEST = "files.json"
DRAFT = "checkpoint.part"
_NAME = re.compile(r"checkpoint-(\d+)")


def seal(draft: Path, folder: Path, step: int) -> Path:
    """Give a complete draft folder its name, checkpoint-000123, with every file's hash in it and all on disk.

    The rows of the metrics so far go in as well: those in `folder` have no hash before the training is finished.
    """
    if (folder / METRICS).is_file():
        shutil.copyfile(folder / METRICS, draft / METRICS)
    files = sorted(path for path in draft.iterdir() if path.is_file())
    write_json(draft / MANIFEST, {path.name: sha256_of_file(path) for path in files})
    for path in files:
        sync(path)
    target = folder / f"checkpoint-{step:06d}"
    shutil.rmtree(target, ignore_errors=True)
    rename(draft, target)
    sync_folder(folder)
    return target


def newest(folder: Path) -> Path | None:
    """The newest checkpoint whose files are all there with the recorded hashes; a damaged one is passed over."""
    return next((path for path in reversed(_sorted(folder)) if _is_whole(path)), None)


def drop_draft(folder: Path) -> None:
    """Take away what a kill left half made, or made and not yet cleared: the last checkpoint has no next one that
    would."""
    shutil.rmtree(folder / DRAFT, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """How many optimiser steps were done when it was written."""
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"not a checkpoint: {checkpoint}")
    return int(match[1])


def keep_newest(folder: Path, n_kept: int) -> None:
    for path in _sorted(folder)[:-n_kept]:
        shutil.rmtree(path, ignore_errors=True)


def _sorted(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name)), key=step_of)


def _is_whole(checkpoint: Path) -> bool:
    manifest = checkpoint / MANIFEST
    if not manifest.is_file():
        return False
    try:
        hashes = read_json(manifest)
    except ValueError:
        return False
    return all(
        (checkpoint / name).is_file() and sha256_of_file(checkpoint / name) == sha for name, sha in hashes.items()
    )
