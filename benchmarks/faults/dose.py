"""How often each fault is made to happen."""

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Dose:
    """`times` per place (step, file, server answer …); `n_real` of the kills through a fresh process."""

    times: int
    seed: int = 0
    n_real: int = 5

    @classmethod
    def short(cls, seed: int) -> "Dose":
        """What a change can wait for."""
        return cls(3, seed, n_real=0)

    def of(self, part: float) -> int:
        """A part of the times, one at the least."""
        return max(1, round(self.times * part))

    def some(self, places: Sequence[str], kind: str) -> list[str]:
        """All of them; of a short dose two, others for each kind of fault and each seed."""
        return random.Random(f"{kind} {self.seed}").sample(places, 2) if self.is_short else list(places)

    @property
    def is_short(self) -> bool:
        return self.times <= 3
