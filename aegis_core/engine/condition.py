"""How the engine stands, in one word and one sentence."""

from dataclasses import dataclass
from enum import StrEnum

from .. import __version__
from ..cancel import CancelToken
from .installed import damaged
from .parts import Parts
from .place import Marker, Place


class Condition(StrEnum):
    READY = "ready"
    ABSENT = "absent"
    HALF = "half"
    OUTDATED = "outdated"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class EngineState:
    """`broken` names damaged packages with their first wrong file, as far as they were looked for."""

    condition: Condition
    marker: Marker | None = None
    broken: tuple[tuple[str, str], ...] = ()


def glance(place: Place, parts: Parts) -> EngineState:
    """Fast enough for a start: reads the marker, looks at no package."""
    marker = place.marker()
    if marker is None:
        return EngineState(Condition.HALF if place.environment.exists() else Condition.ABSENT)
    if (marker.version, marker.lock_sha256) != (__version__, parts.sha256):
        return EngineState(Condition.OUTDATED, marker)
    return EngineState(Condition.READY if place.python.exists() else Condition.DAMAGED, marker)


def examine(place: Place, parts: Parts, cancel: CancelToken, thorough: bool = False) -> EngineState:
    """Looks at every file of every package as well; with `thorough` reads and hashes each."""
    seen = glance(place, parts)
    if seen.condition is not Condition.READY:
        return seen
    broken = tuple(sorted(damaged(place, cancel, thorough).items()))
    return EngineState(Condition.DAMAGED, seen.marker, broken) if broken else seen
