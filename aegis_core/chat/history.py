"""The conversations of a run, kept beside its steps: RUN/conversations/<id>.jsonl, only ever added to.

A row is a question or an answer ({"role", "content", "at", …}), a new title ({"title"}), the system text from there on
({"system"}, null: none of its own), or a mark that the talk goes on from an earlier place ({"keep": n}: the first n
messages stand, what followed stays in the file).
"""

import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..failures import UserError
from ..run_directory import RunDirectory
from .transcript import append_row, read_rows

FOLDER = "conversations"
LONGEST_TITLE = 60

Row = dict[str, Any]


@dataclass(frozen=True)
class Conversation:
    """`messages` are the rows that stand, in order: each has role, content and at; answers also their figures.

    `system` is None where the conversation has no system text of its own.
    """

    id: str
    title: str
    messages: tuple[Row, ...]
    system: str | None = None


def new_id() -> str:
    """Sorts by time; two begun in the same second differ all the same."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def conversation(run: RunDirectory, id: str) -> Conversation:
    """One conversation as it stands; empty where there is none of that name yet. A torn last line is left out.

    UserError if the file is damaged.
    """
    path = _path(run, id)
    title, messages, system = "", list[Row](), None
    try:
        for row in read_rows(path):
            if "title" in row:
                title = str(row["title"])
            elif "system" in row:
                system = _text_or_none(row["system"])
            elif "keep" in row:
                del messages[int(row["keep"]) :]
            else:
                messages.append(_message(row))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "{path} is damaged, so this conversation cannot be shown.",
            "Begin a new one; the file stays as it is.",
            path=path,
        ) from error
    first = next((" ".join(row["content"].split()) for row in messages if row["role"] == "user"), "")
    return Conversation(id, title or first[:LONGEST_TITLE], tuple(messages), system)


def conversations(run: RunDirectory) -> list[Conversation]:
    """All of the run's conversations in which something was said, the latest first; a damaged one has its file's name
    for a title and no messages."""
    files = sorted((run.path / FOLDER).glob("*.jsonl"), reverse=True)
    return [found for path in files if (found := _listed(run, path)) is not None]


def add(run: RunDirectory, id: str, role: str, content: str, **facts: Any) -> None:
    """Write down what was said, forced to the disk; `facts` are model, backend, sampling and figures of an answer."""
    said = {"role": role, "content": content, "at": datetime.now().astimezone().isoformat(timespec="seconds")}
    _append(run, id, said | facts)


def go_back(run: RunDirectory, id: str, n_kept: int) -> None:
    """Let the talk go on after its first `n_kept` messages; what followed stays in the file."""
    _append(run, id, {"keep": n_kept})


def rename(run: RunDirectory, id: str, title: str) -> None:
    """UserError for an empty title."""
    if not title.strip():
        raise UserError("A conversation needs a title.", "Write a few words.")
    _append(run, id, {"title": " ".join(title.split())[:LONGEST_TITLE]})


def set_system(run: RunDirectory, id: str, text: str | None) -> None:
    """The models are told this before the conversation from now on; None leaves it to them."""
    _append(run, id, {"system": text})


def delete(run: RunDirectory, id: str) -> None:
    """Remove a conversation for good; nothing happens if there is none."""
    _path(run, id).unlink(missing_ok=True)


def as_markdown(found: Conversation) -> str:
    """A conversation to be read or passed on."""
    parts = [f"# {found.title}"]
    if found.system:
        parts.append(f"> {found.system.strip()}".replace("\n", "\n> "))
    for row in found.messages:
        who = "You" if row["role"] == "user" else str(row.get("model", "Model"))
        parts.append(f"**{who}** · {row['at']}\n\n{row['content'].strip()}")
    return "\n\n".join(parts) + "\n"


def _listed(run: RunDirectory, path: Path) -> Conversation | None:
    if _is_name(path.stem):
        try:
            found = conversation(run, path.stem)
        except UserError:  # told when it is opened
            return Conversation(path.stem, path.name, ())
        return found if found.messages else None
    return None


def _text_or_none(value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise TypeError(value)
    return value


def _message(row: Row) -> Row:
    known = {"role": str(row["role"]), "content": str(row["content"]), "at": str(row["at"])}
    if known["role"] not in ("user", "assistant"):
        raise ValueError(known["role"])
    return row | known


def _append(run: RunDirectory, id: str, row: Row) -> None:
    path = _path(run, id)
    path.parent.mkdir(exist_ok=True)
    append_row(path, row)


def _path(run: RunDirectory, id: str) -> Path:
    if not _is_name(id):
        raise UserError("{id} is no name of a conversation.", "Choose one from the list.", id=ascii(id))
    return run.path / FOLDER / f"{id}.jsonl"


def _is_name(id: str) -> bool:
    return bool(id) and all(c.isalnum() or c == "-" for c in id)
