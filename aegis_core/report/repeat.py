"""How to hold the same ritual again: the plan as it was before it changed itself, as commands to be typed."""

import re
import shlex
import sys
from typing import Any

from ..plan import DEMO, Plan, demo_plan
from .history import History

_COMMIT = re.compile(r"[0-9a-f]{40}")
FOLDERS = ("fuse.directory", "export.directory")


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every setting of a plan's tree by its full name."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def seeds(plan: Plan) -> dict[str, int]:
    """Every seed of the plan by its name."""
    return {
        name: value for name, value in flat(plan.model_dump(mode="json")).items() if name.rpartition(".")[2] == "seed"
    }


def differences(plan: Plan, history: History) -> list[dict[str, Any]]:
    """The settings that are not those a new run starts with: name, value, default, and the search that set it or ""."""
    defaults = _defaults(plan)
    return [
        {"name": name, "value": value, "default": defaults[name], "source": _source(name, value, history)}
        for name, value in flat(plan.model_dump(mode="json")).items()
        if value != defaults[name]
    ]


def commands(plan: Plan, history: History, base: dict[str, Any] | None, data: dict[str, Any] | None) -> list[str]:
    """What to type to repeat this run: a new run with every setting that is not a default, its start, its proof.

    What a search wrote into the plan is taken back, for the search to find again. A moving revision becomes the commit
    it was. Folders outside the run are left out: they are this run's, and AEGIS refuses another one there. The
    language of the log is always named, since `aegis new` takes that of the system.
    """
    wanted = flat(plan.model_dump(mode="json"))
    for name, change in history.applied.items():
        searching = all(wanted.get(f"{change['source']}.{switch}") for switch in ("enabled", "apply"))
        if searching and wanted.get(name) == change["new"]:
            wanted[name] = change["old"]
    for setting, commit in (("model", (base or {}).get("revision")), ("data", (data or {}).get("commit"))):
        if _COMMIT.fullmatch(str(commit)):
            wanted[f"{setting}.revision"] = commit
    defaults = _defaults(plan) | {"report.language": None}
    chosen = {n: v for n, v in wanted.items() if v != defaults[n] and n not in FOLDERS}
    demo = ["--demo"] if plan.model.source == DEMO else []
    settings = [word for name, value in chosen.items() for word in ("--set", f"{name}={typed(value)}")]
    return [line_of(["aegis", "new", "REPEAT", *demo, *settings]), "aegis run REPEAT", "aegis verify REPEAT"]


def typed(value: Any) -> str:
    """A value as `--set` reads it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def line_of(words: list[str]) -> str:
    """The words as one line for this system's terminal."""
    return " ".join(map(_quoted_for_windows, words)) if sys.platform == "win32" else shlex.join(words)


def _quoted_for_windows(word: str) -> str:
    """Quoted wherever a sign stands in it that cmd or PowerShell might take for theirs."""
    if re.fullmatch(r"[\w.=:/\\-]+", word) and not word.endswith("\\"):
        return word
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', word)
    return '"' + re.sub(r"(\\+)$", r"\1\1", escaped) + '"'


def _defaults(plan: Plan) -> dict[str, Any]:
    return flat((demo_plan() if plan.model.source == DEMO else Plan()).model_dump(mode="json"))


def _source(name: str, value: Any, history: History) -> str:
    change = history.applied.get(name)
    return str(change["source"]) if change and change["new"] == value else ""
