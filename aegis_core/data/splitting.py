"""Which samples are kept aside for measuring: whole topics, decided by hashes and not by the order."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ..failures import UserError
from .samples import Flaw, Sample


@dataclass(frozen=True)
class Survey:
    """What one pass over all samples found. `sha256` covers every sample in its order."""

    n_samples: int
    n_flawed: Counter[Flaw]
    sha256: str
    seed: int
    by_topic: bool
    aside: frozenset[int]

    @property
    def n_usable(self) -> int:
        return self.n_samples - sum(self.n_flawed.values())

    def keeps_aside(self, sample: Sample) -> bool:
        """Whether this sample is for measuring."""
        return _number(self.seed, sample.key if self.by_topic else sample.content) in self.aside


def survey(samples: Iterable[Sample], fraction: float, seed: int) -> Survey:
    """Count the samples and choose what is kept aside: whole topics until `fraction` of all usable samples is reached.

    Without topics, or with one for all, single samples go aside, those of equal content together. UserError if
    nothing would be left for either side.
    """
    topics: Counter[int] = Counter()
    contents: Counter[int] = Counter()
    flawed: Counter[Flaw] = Counter()
    digest = hashlib.sha256()
    n_samples = 0
    for sample in samples:
        n_samples += 1
        digest.update(repr((sample.messages, sample.text, sample.topic, str(sample.flaw))).encode())
        if sample.flaw:
            flawed[sample.flaw] += 1
            continue
        content = _number(seed, sample.content)
        contents[content] += 1
        topics[_number(seed, sample.topic) if sample.topic else content] += 1
    by_topic = len(topics) > 1
    aside = _chosen(topics if by_topic else contents, fraction)
    return Survey(n_samples, flawed, digest.hexdigest(), seed, by_topic, aside)


def _chosen(counts: Counter[int], fraction: float) -> frozenset[int]:
    wanted = fraction * counts.total()
    aside: set[int] = set()
    n_aside = 0
    for key in sorted(counts):
        if n_aside >= wanted or len(aside) + 1 == len(counts):
            break
        aside.add(key)
        n_aside += counts[key]
    if not aside and counts:
        raise UserError(
            "The dataset has too few samples to keep some aside for measuring.", "Add samples; two are the least."
        )
    return frozenset(aside)


def _number(seed: int, key: str) -> int:
    """Eight bytes of a hash: enough to tell samples apart, and little to keep for each."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{key}".encode()).digest()[:8])
