"""The exact plan as one line to paste into a terminal: `aegis new RUN --set section.field=value …`."""

import json
import re
import shlex
from pathlib import Path
from typing import Any, Literal

from . import plan as plans
from . import platforms
from .engine.command import typed
from .failures import UserError
from .names import free_name
from .plan import DEMO, Frozen, Plan, demo_plan
from .run_directory import RunDirectory

Shell = Literal["sh", "powershell", "cmd"]
SHELLS: tuple[Shell, ...] = ("powershell", "cmd") if platforms.here().name == "win32" else ("sh",)
"""The shells of this system, the usual one first."""
ALWAYS = "report.language"  # aegis new takes the system's language unless it is told one

_BARE = re.compile(r"[A-Za-z0-9_./:\\=+~-]+")
_SINGLE_QUOTES = "'‘’‚‛"  # PowerShell ends a quotation at any of them


def new_command(folder: Path, plan: Plan, shell: Shell = SHELLS[0]) -> str:
    """The line that begins a run with this very plan in the folder.

    UserError where the shell cannot be given a setting: no line of Windows holds a line break.
    """
    demo = plan.model.source == DEMO
    words = [typed(), "new", str(folder), *(["--demo"] if demo else [])]
    start = demo_plan() if demo else Plan()
    settings = differences(start, plan)
    settings.setdefault(ALWAYS, plan.report.language)
    for name, value in settings.items():
        written = assignment(name, value)
        if "\n" in written and shell != "sh":
            raise UserError(
                "The setting {name} holds a line break, which a command line of Windows cannot.",
                "Save the settings as a preset and write aegis new RUN --preset NAME.",
                name=name,
            )
        words += ["--set", written]
    return quoted(words, shell)


def repeat_command(run: RunDirectory, shell: Shell = SHELLS[0]) -> str:
    """The line that begins a run with the plan of this one, beside it; UserError as for `new_command`."""
    name = free_name(run.path.parent, run.path.name)
    return new_command(run.path.with_name(name), run.plan(), shell)


def differences(start: Plan, plan: Plan) -> dict[str, Any]:
    """ "section.field" → value of every setting in which the plan differs from another one."""
    before = flat(start)
    return {name: value for name, value in flat(plan).items() if value != before[name]}


def flat(section: Frozen, prefix: str = "") -> dict[str, Any]:
    """ "section.field" → value of every setting, in the plan's order; several values are a list."""
    found: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Frozen):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = list(value) if isinstance(value, tuple) else value
    return found


def assignment(name: str, value: Any) -> str:
    """ "section.field=value" that `plan.parsed` reads back to the very value."""
    if isinstance(value, list):
        simple = f"{name}={','.join(map(str, value))}"
        return simple if plans.parsed(simple) == (name, value) else f"{name}={json.dumps(value, ensure_ascii=False)}"
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"


def quoted(words: list[str], shell: Shell) -> str:
    """The words as one line which that shell hands to the program unchanged."""
    if shell == "sh":
        return shlex.join(words)
    if shell == "cmd":
        return " ".join(word if _BARE.fullmatch(word) else _for_windows(word) for word in words)
    if any('"' in word or word.endswith("\\") for word in words):
        # Versions of PowerShell differ in how they hand these on; after --% none of them touches anything.
        program, *rest = words
        written = (word if _BARE.fullmatch(word) else _for_windows(word) for word in rest)
        return " ".join([_called_in_powershell(program), "--%", *written])
    program, *rest = words
    written = (word if _BARE.fullmatch(word) else _for_powershell(word) for word in rest)
    return " ".join([_called_in_powershell(program), *written])


def _called_in_powershell(program: str) -> str:
    """A program in quotes is a mere text there, unless & says that it is to be run."""
    return program if _BARE.fullmatch(program) else f"& {_for_powershell(program)}"


def _for_powershell(word: str) -> str:
    """In single quotes nothing has a meaning but the quotes themselves, which are doubled."""
    return "'" + "".join(sign * 2 if sign in _SINGLE_QUOTES else sign for sign in word) + "'"


def _for_windows(word: str) -> str:
    """In double quotes, as Microsoft's C library takes a command line apart.

    A quote inside is doubled, which leaves cmd's own count of quotes even. A percent sign stands outside the quotes,
    so that what lies between two of them is no name of an environment variable. Backslashes count only before a quote.
    """
    made, backslashes = ['"'], 0
    for sign in word:
        if sign == "\\":
            backslashes += 1
        else:
            if sign in '"%':
                made.append("\\" * backslashes)
            backslashes = 0
        made.append({'"': '""', "%": '"%"'}.get(sign, sign))
    return "".join(made) + "\\" * backslashes + '"'
