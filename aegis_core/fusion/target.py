"""The folder a fused model gets: nobody else's work, and its name only once the model is proven."""

import shutil
from pathlib import Path

from ..failures import UserError
from ..run_directory import rename, settle, sync_folder
from .ingredients import RECORD, read_record

_COMPANIONS = (".part", ".old", ".refused", ".unproven", ".unproven.part", ".unproven.old")


def unproven(folder: Path) -> Path:
    """Where a merged model waits for its proof, beside the earlier one that may still carry the name."""
    return folder.with_name(folder.name + ".unproven")


def refuse_foreign(folder: Path, run: str) -> None:
    """UserError if writing `folder`, or setting it aside, would destroy something that the run `run` did not make."""
    for place in (folder, *(folder.with_name(folder.name + ending) for ending in _COMPANIONS)):
        if not place.exists() or (place.is_dir() and _is_only_begun(place)):
            continue
        if not place.is_dir() or not (place / RECORD).is_file():
            raise UserError(
                "{folder} is there already and is not a model that AEGIS fused.",
                "Choose an empty or a new folder.",
                folder=place,
            )
        if read_record(place).get("run") != run:
            raise UserError(
                "{folder} holds the model of another run.",
                "Choose an empty or a new folder; delete that one first if nobody needs it.",
                folder=place,
            )


def _is_only_begun(place: Path) -> bool:
    """Whether nothing is in it, or at most the draft of our record: nothing of a model is written before that."""
    return all(path.name == f"{RECORD}.part" for path in place.iterdir())


def give_name(folder: Path) -> None:
    """Let the unproven model take the place of whatever this run had there; a kill in between loses neither."""
    settle(folder)
    old = folder.with_name(folder.name + ".old")
    if folder.exists():
        rename(folder, old)
    try:
        rename(unproven(folder), folder)
    except OSError:
        if old.exists():
            rename(old, folder)
        raise
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
