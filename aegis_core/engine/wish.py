"""What the user may choose of an engine."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from ..resources import chosen_folder
from .resolution import Sources
from .torch_build import AUTO


@dataclass(frozen=True)
class Wish:
    """Build of torch (AUTO: the one that is there, else what suits this machine), a Python instead of the one uv
    brings, wheels at hand, an index."""

    build: str = AUTO
    python: Path | None = None
    sources: Sources = field(default_factory=Sources)


def this_wish() -> Wish:
    """As the environment variables AEGIS_ENGINE_TORCH, _PYTHON, _WHEELS and _INDEX say."""
    return Wish(
        os.environ.get("AEGIS_ENGINE_TORCH") or AUTO,
        chosen_folder("AEGIS_ENGINE_PYTHON"),
        Sources(chosen_folder("AEGIS_ENGINE_WHEELS"), os.environ.get("AEGIS_ENGINE_INDEX") or None),
    )
