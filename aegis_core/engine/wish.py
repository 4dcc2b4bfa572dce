"""What the user may choose of an engine."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from ..resources import chosen_folder
from .place import Place
from .resolution import Sources
from .torch_build import AUTO, TorchBuild, kept_build


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


def wished_build(place: Place, wish: Wish) -> tuple[TorchBuild, bool]:
    """The build of torch for the engine there, and whether a person named it, now or earlier."""
    before = place.last()
    tag, chosen = (before.build, before.chosen) if before else (None, False)
    build = kept_build(wish.build, tag, chosen)
    return build, wish.build != AUTO or (chosen and build.tag == tag)
