"""Where the files that travel with AEGIS are, in a checkout and in an installed package alike."""

import os
from pathlib import Path
from typing import Literal

import platformdirs

from . import platforms

RESOURCES = Path(__file__).resolve().parent.parent / "resources"


def cache_folder() -> Path:
    """The user's cache for downloaded and converted models; AEGIS_CACHE overrides it."""
    return chosen_folder("AEGIS_CACHE") or platformdirs.user_cache_path("aegis", appauthor=False)


def data_folder() -> Path:
    """What the user made and AEGIS keeps outside the runs, such as presets; AEGIS_DATA overrides it."""
    return chosen_folder("AEGIS_DATA") or platformdirs.user_data_path("aegis", appauthor=False)


def runs_folder() -> Path:
    """Where new runs go unless the user says otherwise; AEGIS_RUNS overrides it."""
    return chosen_folder("AEGIS_RUNS") or platformdirs.user_documents_path() / "AEGIS"


def system_language() -> Literal["en", "ja"]:
    """The language the person's system is set to, as far as AEGIS speaks it."""
    return "ja" if platforms.here().locale_name().lower().startswith("ja") else "en"


def chosen_folder(variable: str) -> Path | None:
    """The folder that an environment variable names, or None; absolute, for a child may work elsewhere."""
    value = os.environ.get(variable)
    return Path(value).expanduser().absolute() if value else None
