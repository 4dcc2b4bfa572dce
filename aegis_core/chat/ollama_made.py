"""Which models AEGIS made on which server, remembered in its cache: these it may replace, unload and delete unasked.

A model counts as ours while the digest is the one that we left; any other of that name is somebody else's.
"""

from pathlib import Path
from typing import Any

from ..resources import cache_folder
from ..run_directory import read_json, write_json
from .ollama import full_name

Row = dict[str, Any]


def known(base: str, name: str) -> Row:
    """What was noted about a model of that name on this server: digest, request, intended (before it was made)."""
    models = _known_at(base)
    rows = (row for model, row in models.items() if full_name(model) == full_name(name))
    return next((row for row in rows if isinstance(row, dict)), {})


def is_ours(base: str, name: str, digest: str) -> bool:
    """Whether AEGIS made the model that is on the server under this name now."""
    return bool(digest) and known(base, name).get("digest") == digest


def remember(base: str, name: str, made: Row) -> None:
    others = {model: row for model, row in _known_at(base).items() if full_name(model) != full_name(name)}
    write_json(_path(), _all() | {base: others | {name: made}})


def _known_at(base: str) -> Row:
    models = _all().get(base)
    return models if isinstance(models, dict) else {}


def _all() -> Row:
    """Empty where the file is missing or damaged: then every model counts as somebody else's."""
    try:
        memory = read_json(_path())
    except (FileNotFoundError, ValueError):
        return {}
    return memory if isinstance(memory, dict) else {}


def _path() -> Path:
    return cache_folder() / "ollama-models.json"
