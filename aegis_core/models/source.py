"""Where a plan's base model is to be found, and what its folder says of itself. Light: no torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..failures import UserError
from ..plan import DEMO, ModelPlan
from .hub import HubModel, look_up
from .hub_errors import HubUnreachable
from .hub_files import cached_copy
from .weights import weight_files


@dataclass(frozen=True)
class DemoModel:
    """The embedded one."""


@dataclass(frozen=True)
class LocalModel:
    """A folder of the user's, or an earlier fetch at `commit` that serves because the hub does not answer."""

    folder: Path
    commit: str = ""


def locate(plan: ModelPlan) -> DemoModel | LocalModel | HubModel:
    """The model a plan means. Asks the hub unless it is a folder or the demo; what is missing is not fetched.

    UserError if there is no such folder, if the hub says no, or if it does not answer and no complete copy is here.
    """
    if plan.source == DEMO:
        return DemoModel()
    folder = Path(plan.source).expanduser()
    if folder.is_dir():
        return LocalModel(folder.resolve())
    if folder.is_absolute() or plan.source.startswith((".", "~")) or plan.source.count("/") != 1:
        raise UserError(
            "There is no model folder {folder}.",
            "Choose an existing folder, a hub id such as owner/name, or demo.",
            folder=plan.source,
        )
    try:
        return look_up(plan.source, plan.revision)
    except HubUnreachable:
        copy = _complete_copy(plan)
        if copy is None:
            raise
        return LocalModel(copy, copy.name)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder; UserError if it is missing or no JSON object."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(
            "There is no model in {folder}: config.json is missing.",
            "Choose the folder that holds config.json and *.safetensors.",
            folder=folder,
        )
    return read_object(path)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file that came with a model; UserError if it is none."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(
            "{path} is damaged: {problem}.", "Download the model again.", path=path, problem=error
        ) from error
    if not isinstance(tree, dict):
        raise UserError(
            "{path} is damaged: {problem}.", "Download the model again.", path=path, problem="no JSON object"
        )
    return tree


def license_in(folder: Path) -> str:
    """The licence named in the model card's front matter, or unknown."""
    card = folder / "README.md"
    named = {}
    if card.is_file():
        for line in card.read_text(encoding="utf-8", errors="replace").splitlines()[:60]:
            key, colon, value = line.partition(":")
            if colon and key in ("license", "license_name") and value.strip():
                named[key] = value.strip().strip("\"'")
    license_name = named.get("license", "unknown")
    return named.get("license_name", license_name) if license_name == "other" else license_name


def _complete_copy(plan: ModelPlan) -> Path | None:
    folder = cached_copy(plan.source, plan.revision)
    try:
        return folder if folder and weight_files(folder) else None
    except UserError:  # a part of the weights was never fetched
        return None
