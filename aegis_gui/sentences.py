"""Finds every sentence the window can show, in the window's and the engine's source text. Qt-free.

The engine says most things as templates with values. Where it builds a text with an f-string instead, the f-string
itself becomes the template: f"{size} free at {place}" is the sentence "{size} free at {place}".
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

from .plan_fields import OPTIONS, all_names, plan_field

PACKAGES = Path(__file__).resolve().parent.parent
# Called name -> which arguments are shown to the user (by position or keyword).
SHOWN: dict[str, tuple[int | str, ...]] = {
    "tr": (0,),
    "mark": (0,),
    "filled": (0,),
    "said": (0,),
    "translate": (1,),
    "UserError": (0, 1),
    "UsageError": (0, 1),
    "HubUnreachable": (0, 1),
    "PromptMismatch": (0, 1),
    "TrialFailed": (0,),
    "note": (0,),
    "warning": (0,),
    "CheckRow": (0, 2, 3),
    "Verdict": (0, 2, 3),
    "Check": (0, 2, 3),
    "_check": (0, 2, 3),
    "Progress": (3, "phase"),
    "Told": (1, "phase"),
}
# Arguments of these are read from names and f-strings too; the window's own tr() must get plain literals.
LOOSE = (
    "UserError",
    "UsageError",
    "HubUnreachable",
    "PromptMismatch",
    "TrialFailed",
    "note",
    "warning",
    "CheckRow",
    "Verdict",
    "Check",
    "_check",
    "Progress",
    "Told",
)


def all_sentences() -> dict[str, str]:
    """Sentence -> the file it was found in; what needs no translation is left out."""
    return {sentence: place for sentence, place in all_texts().items() if _is_language(sentence)}


def all_texts() -> dict[str, str]:
    """Every text that is translated where it is shown, also a comma or "{setting} {value}" -> its file."""
    found: dict[str, str] = {}
    for package in ("aegis_gui", "aegis_core"):
        for path in sorted((PACKAGES / package).rglob("*.py")):
            if package == "aegis_core" and "cli" in path.parts:
                continue  # what only the terminal says
            for sentence in sentences_of(path):
                found.setdefault(sentence, path.relative_to(PACKAGES).as_posix())
    for name in all_names():
        field = plan_field(name)
        for sentence in (field.label, field.help, *(OPTIONS.get(option, option) for option in field.options)):
            found.setdefault(sentence, "aegis_core/plan.py")
    return found


def sentences_of(path: Path) -> Iterator[str]:
    """The sentences in one source file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = _constants(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = _called(node.func)
        for place in SHOWN.get(name, ()):
            argument = _argument(node, place)
            if argument is not None:
                yield from _texts(argument, constants if name in LOOSE else {}, name in LOOSE)


def placeholders(sentence: str) -> set[str]:
    """The names in braces."""
    return {field for _, field, _, _ in Formatter().parse(sentence) if field}


def _called(function: ast.expr) -> str:
    match function:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def _argument(call: ast.Call, place: int | str) -> ast.expr | None:
    if isinstance(place, int):
        return call.args[place] if place < len(call.args) else None
    return next((keyword.value for keyword in call.keywords if keyword.arg == place), None)


def _texts(node: ast.expr, constants: dict[str, list[ast.expr]], loose: bool) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from _texts(one, constants, loose)
            yield from _texts(other, constants, loose)
        case ast.Name(id=name):
            for value in constants.get(name, []):
                yield from _texts(value, {}, loose)
        case ast.JoinedStr(values=parts) if loose:
            yield _template(parts)


def _template(parts: list[ast.expr]) -> str:
    text, unnamed = "", 0
    for part in parts:
        if isinstance(part, ast.Constant):
            text += str(part.value).replace("{", "{{").replace("}", "}}")
            continue
        assert isinstance(part, ast.FormattedValue)
        match part.value:
            case ast.Name(id=name) | ast.Attribute(attr=name) if "{" + name + "}" not in text:
                text += "{" + name.lower() + "}"
            case _:
                unnamed += 1
                text += "{x" + str(unnamed) + "}"
    return text


def _constants(tree: ast.AST) -> dict[str, list[ast.expr]]:
    """Name -> the texts assigned to it anywhere in the file."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
    return found


def _is_language(sentence: str) -> bool:
    """Not a bare number or sign, and not an identifier, which the window has a name of its own for."""
    bare = "".join(literal for literal, *_ in Formatter().parse(sentence))
    return any(map(str.isalpha, bare)) and not ("_" in bare and bare.isidentifier())
