"""Settings under a name, to begin runs with: a few that come along, and the user's own as JSON files.

A preset holds what differs from AEGIS's defaults. What belongs to one run or one machine alone stays out of it: folders
elsewhere, consent to a model's program code, a foreign model that may be replaced, the run log's language.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import plan as plans
from .command_line import differences
from .failures import UsageError, UserError
from .names import usable_name
from .plan import DEMO, Plan, demo_plan
from .resources import data_folder
from .run_directory import write_json

FORMAT = 1
PRIVATE = (
    "fuse.directory",
    "export.directory",
    "model.remote_code_consent",
    "chat.replace_model",
    "report.language",
)


@dataclass(frozen=True)
class Preset:
    """`title` is for people; `path` is None for those that come along. `problem` says why a file cannot be used."""

    name: str
    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    problem: UserError | None = None

    def plan(self) -> Plan:
        """The plan it stands for; UserError if its file is damaged or holds what no plan allows."""
        if self.problem:
            raise self.problem
        return plans.changed(Plan(), dict(self.changes))


def mark(text: str) -> str:
    """The title unchanged: noted for the window's translation."""
    return text


BUNDLED: tuple[Preset, ...] = (
    Preset("borea-phi-3.5-12gb", mark("12 GB card: Borea Phi-3.5 QLoRA, Japanese")),
    Preset("phi-3.5-12gb", mark("12 GB card: Phi-3.5 QLoRA"), {"model.source": "microsoft/Phi-3.5-mini-instruct"}),
    Preset(DEMO, mark("Demo: small model, no GPU needed"), differences(Plan(), demo_plan())),
)
"""The first is what a run begins with unless something else is asked for."""


def preset_folder() -> Path:
    return data_folder() / "presets"


def presets() -> list[Preset]:
    """Those that come along, then the user's own by name; a damaged file is there with its problem."""
    folder = preset_folder()
    files = sorted(folder.glob("*.json"), key=lambda path: path.stem.casefold()) if folder.is_dir() else []
    return [*BUNDLED, *map(read_preset, files)]


def find_preset(name: str) -> Preset:
    """The user's own of that name, or the one that comes along; UsageError names those there are."""
    known = presets()
    for preset in reversed(known):
        if preset.name == name:
            return preset
    raise UsageError(
        "There is no preset {name}.", "There are: {names}.", name=name, names=", ".join(p.name for p in known)
    )


def save_preset(name: str, plan: Plan) -> Preset:
    """Write the plan's settings as a preset, whole or not at all; UserError if there is one of that name already."""
    name = usable_name(name)
    path = preset_folder() / f"{name}.json"
    if path.exists() or name in (preset.name for preset in BUNDLED):
        raise UsageError("There is already a preset {name}.", "Choose another name.", name=name)
    changes = {key: value for key, value in differences(Plan(), plan).items() if key not in PRIVATE}
    write_json(path, {"format": FORMAT, "settings": changes})
    return Preset(name, name, changes, path)


def read_preset(path: Path) -> Preset:
    """The preset in a file; whatever is wrong with it becomes its `problem`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        changes = {str(key): value for key, value in content["settings"].items()}
        if content.get("format", 1) > FORMAT:
            raise UserError("The preset {name} comes from a newer AEGIS.", "Update AEGIS.", name=path.stem)
    except UserError as error:
        return Preset(path.stem, path.stem, path=path, problem=error)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return _damaged(path, f"{type(error).__name__}: {error}")
    made = Preset(path.stem, path.stem, changes, path)
    try:
        made.plan()
    except UserError as error:
        return _damaged(path, error.reason.rstrip("."))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return _damaged(path, f"{type(error).__name__}: {error}")
    return made


def _damaged(path: Path, problem: str) -> Preset:
    error = UserError(
        "The preset {name} is damaged: {problem}.",
        "Mend or delete the file {path}.",
        name=path.stem,
        path=path,
        problem=problem,
    )
    return Preset(path.stem, path.stem, path=path, problem=error)
