"""What taking a base model will mean, told before anything large is fetched: size, licence, room on the disks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from .. import hardware
from ..cancel import CancelToken
from ..events import Log, note
from ..failures import UserError
from ..gguf_export.file_types import FILE_TYPES
from ..plan import DEMO, Plan
from . import demo
from .hub import HubModel
from .hub_files import fetch, missing_bytes
from .source import DemoModel, LocalModel, license_in, locate, read_config
from .weights import stored_tensors, weight_files

_DEMO_DOWNLOAD_BYTES = 93_000_000
_DEMO_PARAMETERS = 134_515_008
_DEMO_BYTES = 4 * _DEMO_PARAMETERS


@dataclass(frozen=True)
class Room:
    """Space on one drive: what will be written there, and what is free."""

    folder: str
    needed_bytes: int
    free_bytes: int | None

    @property
    def enough(self) -> bool:
        return self.free_bytes is None or self.needed_bytes <= self.free_bytes


@dataclass(frozen=True)
class ModelFacts:
    """A base model as it can be described without its weights.

    `commit` is empty for local folders; `download_bytes` is what is still missing here; `weight_bytes` all weights;
    `n_parameters` None where the hub does not say; `offline`: the hub does not answer and a copy here is used.
    `rooms` count the download, the fused copy and the GGUF files.
    """

    source: str
    revision: str
    commit: str
    license: str
    gated: bool
    offline: bool
    n_parameters: int | None
    weight_bytes: int
    download_bytes: int
    rooms: tuple[Room, ...]

    @property
    def disk_bytes(self) -> int:
        """All that will be written, on whatever drive."""
        return sum(room.needed_bytes for room in self.rooms)


def preview(plan: Plan, run: Path) -> ModelFacts:
    """The facts about a plan's base model for a run in the folder `run`; fetches at most a few kilobytes.

    UserError if the source is no model, the hub refuses it, or the hub cannot be reached and no copy is here.
    """
    found = locate(plan.model)
    if isinstance(found, DemoModel):
        return demo_facts(plan, run)
    if isinstance(found, LocalModel):
        return folder_facts(plan, run, found)
    return hub_facts(plan, run, found)


def hub_facts(plan: Plan, run: Path, model: HubModel) -> ModelFacts:
    """Of a model on the hub; the index of its weights and its configuration are fetched if that is allowed."""
    config: dict[str, Any] = {}
    index = None
    if not model.gated:  # otherwise the names of the files must do
        wanted = [file for file in model.files if file.name == "config.json" or file == model.index]
        folder = fetch(model, wanted, CancelToken())
        config = read_config(folder)
        index = folder / model.index.name if model.index else None
    weights = model.weight_files(index)
    weight_bytes = sum(file.n_bytes for file in weights)
    missing = missing_bytes(model, [*model.small_files, *weights])
    places = [(Path(constants.HF_HUB_CACHE), missing), *_written(plan, run, weight_bytes, model.n_parameters, config)]
    return ModelFacts(
        source=model.source,
        revision=model.revision,
        commit=model.commit,
        license=model.license,
        gated=model.gated,
        offline=False,
        n_parameters=model.n_parameters,
        weight_bytes=weight_bytes,
        download_bytes=missing,
        rooms=_rooms(places),
    )


def folder_facts(plan: Plan, run: Path, found: LocalModel) -> ModelFacts:
    """Of a model in a folder; UserError if the folder is no whole model."""
    config = read_config(found.folder)
    weight_bytes = sum(file.stat().st_size for file in weight_files(found.folder))
    n_parameters = sum(math.prod(tensor.shape) for tensor in stored_tensors(found.folder))
    return ModelFacts(
        source=plan.model.source,
        revision=plan.model.revision if found.commit else "",
        commit=found.commit,
        license=license_in(found.folder),
        gated=False,
        offline=bool(found.commit),
        n_parameters=n_parameters,
        weight_bytes=weight_bytes,
        download_bytes=0,
        rooms=_rooms(_written(plan, run, weight_bytes, n_parameters, config)),
    )


def demo_facts(plan: Plan, run: Path) -> ModelFacts:
    """Of the embedded demo model, here or not yet here."""
    folder = demo.demo_folder()
    here = (folder / "origin.json").is_file()
    download = 0 if here else _DEMO_DOWNLOAD_BYTES
    config = {"tie_word_embeddings": True, "vocab_size": 49152, "hidden_size": 576}
    places = [(folder, 0 if here else download + _DEMO_BYTES)]
    places += _written(plan, run, _DEMO_BYTES, _DEMO_PARAMETERS, config)
    return ModelFacts(
        source=DEMO,
        revision="",
        commit=demo.PACKAGE,
        license=demo.LICENSE,
        gated=False,
        offline=False,
        n_parameters=_DEMO_PARAMETERS,
        weight_bytes=_DEMO_BYTES,
        download_bytes=download,
        rooms=_rooms(places),
    )


def announcement(facts: ModelFacts) -> Log:
    """The line that stands in the log before a download begins."""
    free = [room.free_bytes for room in facts.rooms if room.free_bytes is not None]
    return note(
        "{model} ({license}): {download} GB to fetch; with the fused copy and the GGUF files {disk} GB will be "
        "written, and {free} GB are free.",
        model=f"{facts.source} @ {facts.commit[:12]}" if facts.commit else facts.source,
        license=facts.license,
        download=_gb(facts.download_bytes),
        disk=_gb(facts.disk_bytes),
        free=" + ".join(map(_gb, free)) or "?",
    )


def require_room(facts: ModelFacts) -> None:
    """UserError naming the drive that cannot hold what will be written there."""
    for room in facts.rooms:
        if not room.enough:
            raise UserError(
                "The drive of {folder} is too small: {needed} GB will be written there, but only {free} GB are free.",
                "Free some space, or choose folders on another drive for the fused model and the GGUF files.",
                folder=room.folder,
                needed=_gb(room.needed_bytes),
                free=_gb(room.free_bytes or 0),
            )


def _written(
    plan: Plan, run: Path, weight_bytes: int, parameters: int | None, config: dict[str, Any]
) -> list[tuple[Path, int]]:
    """What fusion and export will write: (folder, bytes)."""
    parameters = parameters or weight_bytes // 2
    # A tied head becomes a tensor of its own; a configuration that says nothing may leave it tied.
    head = 0
    if config.get("tie_word_embeddings") is not False:
        head = int(config.get("vocab_size") or 0) * int(config.get("hidden_size") or 0)
    fused = weight_bytes + head * round(weight_bytes / parameters)
    gguf = (parameters + head) * sum(FILE_TYPES[kind].bytes_per_parameter for kind in plan.export.types)
    fuse_folder = Path(plan.fuse.directory).expanduser() if plan.fuse.directory else run
    export_folder = Path(plan.export.directory).expanduser() if plan.export.directory else run
    return [(fuse_folder, fused), (export_folder, int(gguf))]


def _rooms(places: Iterable[tuple[Path, int]]) -> tuple[Room, ...]:
    """Needs on the same drive add up."""
    needed: dict[int, tuple[Path, int]] = {}
    for folder, n_bytes in places:
        drive = _drive(folder)
        first, before = needed.get(drive, (folder, 0))
        needed[drive] = (first if before else folder, before + n_bytes)
    return tuple(Room(str(folder), n, hardware.disk_free_bytes(folder)) for folder, n in needed.values() if n)


def _drive(folder: Path) -> int:
    """The device number of the nearest folder that exists."""
    folder = folder.absolute()
    return next(place.stat().st_dev for place in (folder, *folder.parents) if place.exists())


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f}"
