"""What a verdict on an answer consists of: checks with figures and reasons, and what the base model made of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..report.phrases import Phrase

MIN_CONTRAST_NATS = 0.5  # a base that hardly prefers prose to its shuffled words cannot be asked


@dataclass(frozen=True)
class Surprise:
    """What the base model thinks of an answer: its loss in nats per token, of `n_tokens`.

    `prose` is its loss on good answers in the same language, `shuffled` on the same answers with their words shuffled.
    """

    nats_per_token: float
    n_tokens: int
    prose: float
    shuffled: float

    @property
    def degree(self) -> float:
        """0 where the answer is as likely as good prose, 1 where it is as unlikely as shuffled words."""
        return (self.nats_per_token - self.prose) / (self.shuffled - self.prose)

    @property
    def tells(self) -> bool:
        """Whether this base knows the language well enough to be asked."""
        return self.shuffled - self.prose >= MIN_CONTRAST_NATS

    def row(self) -> dict[str, float]:
        """As it stands in a transcript's row."""
        losses = {"nats_per_token": self.nats_per_token, "prose": self.prose, "shuffled": self.shuffled}
        return {name: round(nats, 4) for name, nats in losses.items()} | {"n_tokens": self.n_tokens}

    @classmethod
    def of(cls, row: Mapping[str, Any] | None) -> Self | None:
        """As it stands in a transcript's row; None where it says why nothing was measured, or nothing at all."""
        if not row or "nats_per_token" not in row:
            return None
        return cls(float(row["nats_per_token"]), int(row["n_tokens"]), float(row["prose"]), float(row["shuffled"]))


@dataclass(frozen=True)
class Check:
    """One figure against its limit, `status` pass, fail or skipped (not measured), and a sentence that says why.

    A check that does not `decide` is a remark: the verdict does not depend on it.
    """

    name: str
    status: str
    measured: str
    expected: str
    reason: Phrase
    decides: bool = True

    @property
    def passed(self) -> bool:
        return self.status == "pass"

    def row(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "status": self.status,
            "passed": self.passed,
            "measured": self.measured,
            "expected": self.expected,
            "decides": self.decides,
            "reason": self.reason.english,
            "reason_template": self.reason.template,
            "reason_values": dict(self.reason.values),
        }


@dataclass(frozen=True)
class AnswerVerdict:
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return not self.failed

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks for which the answer is not meaningful."""
        return tuple(check for check in self.checks if check.decides and check.status == "fail")

    def row(self) -> dict[str, Any]:
        """As it stands in the transcript."""
        return {"passed": self.passed, "checks": [check.row() for check in self.checks]}
