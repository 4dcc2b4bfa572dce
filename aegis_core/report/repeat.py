"""How to hold the same ritual again: the plan as it was before it changed itself, as commands to be typed."""

import re
from typing import Any

from .. import command_line
from ..command_line import assignment, flat, quoted
from ..duplicate import ELSEWHERE
from ..plan import DEMO, Plan, demo_plan
from .history import History

_COMMIT = re.compile(r"[0-9a-f]{40}")


def flat_tree(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every setting of a plan's tree by its full name."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat_tree(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def seeds(plan: Plan) -> dict[str, int]:
    """Every seed of the plan by its name."""
    return {name: value for name, value in flat(plan).items() if name.rpartition(".")[2] == "seed"}


def differences(plan: Plan, history: History) -> list[dict[str, Any]]:
    """The settings that are not those a new run starts with: name, value, default, and the search that set it or ""."""
    start = _start(plan)
    defaults = flat(start)
    return [
        {"name": name, "value": value, "default": defaults[name], "source": _source(name, value, history)}
        for name, value in command_line.differences(start, plan).items()
    ]


def commands(plan: Plan, history: History, base: dict[str, Any] | None, data: dict[str, Any] | None) -> list[str]:
    """What to type in this system's shell to repeat this run: a new run with every setting that is not a default, its
    start, its proof.

    What a search wrote into the plan is taken back, for the search to find again. A moving revision becomes the commit
    it was. Folders outside the run are left out: they are this run's, and AEGIS refuses another one there. The
    language of the log is always named, since `aegis new` takes that of the system.
    """
    wanted = flat(plan)
    for name, change in history.applied.items():
        searching = all(wanted.get(f"{change['source']}.{switch}") for switch in ("enabled", "apply"))
        if searching and wanted.get(name) == change["new"]:
            wanted[name] = change["old"]
    for setting, commit in (("model", (base or {}).get("revision")), ("data", (data or {}).get("commit"))):
        if _COMMIT.fullmatch(str(commit)):
            wanted[f"{setting}.revision"] = commit
    defaults = flat(_start(plan)) | {"report.language": None}
    chosen = {n: v for n, v in wanted.items() if v != defaults[n] and n not in ELSEWHERE}
    demo = ["--demo"] if plan.model.source == DEMO else []
    settings = [word for name, value in chosen.items() for word in ("--set", assignment(name, value))]
    line = quoted(["aegis", "new", "REPEAT", *demo, *settings], command_line.SHELLS[0])
    return [line, "aegis run REPEAT", "aegis verify REPEAT"]


def _start(plan: Plan) -> Plan:
    """What `aegis new` begins with."""
    return demo_plan() if plan.model.source == DEMO else Plan()


def _source(name: str, value: Any, history: History) -> str:
    change = history.applied.get(name)
    return str(change["source"]) if change and change["new"] == value else ""
