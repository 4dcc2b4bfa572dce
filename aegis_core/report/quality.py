"""Held-out quality from base to GGUF, and what it must satisfy."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .evidence import Evidence, Gap
from .findings import FAIL, PASS, SKIPPED, Finding
from .phrases import Phrase, phrase

STAGES = ("base", "lora", "gated_nf4", "gated", "fused", "f16", "q4_k_m")
MEASURED_BY = ("train", "fuse", "export")
FUSED_TOLERANCE = 1e-3
Q4_K_M_TOLERANCE = 0.15

Stages = dict[str, dict[str, Any]]


def read_stages(evidence: Evidence) -> tuple[Stages, list[Phrase]]:
    """Stage -> {loss, perplexity, n_tokens, standard_error}, in the order of the ritual; and what could not be read."""
    found: Stages = {}
    gaps: list[Phrase] = []
    for step in MEASURED_BY:
        try:
            found |= evidence.json(step, "quality.json")
        except Gap as gap:
            gaps.append(gap.phrase)
    return {stage: found[stage] for stage in STAGES if stage in found}, gaps


@dataclass(frozen=True)
class _Claim:
    """`holds` gets the losses of `stages`; `difference` is what is shown, in nats."""

    stages: tuple[str, ...]
    expected: Phrase
    difference: Callable[..., float]
    holds: Callable[[float], bool]


def _below_base(stage: str) -> _Claim:
    return _Claim(
        (stage, "base"), phrase("below the base model's loss"), lambda loss, base: loss - base, lambda d: d < 0
    )


CLAIMS: dict[str, _Claim] = {
    "gated_below_base": _below_base("gated"),
    "fused_below_base": _below_base("fused"),
    "f16_below_base": _below_base("f16"),
    "fused_equals_gated": _Claim(
        ("fused", "gated"),
        phrase("at most {limit} nats apart", limit=FUSED_TOLERANCE),
        lambda fused, gated: fused - gated,
        lambda d: abs(d) <= FUSED_TOLERANCE,
    ),
    "q4_k_m_near_f16": _Claim(
        ("q4_k_m", "f16"),
        phrase("at most {limit} nats above F16", limit=Q4_K_M_TOLERANCE),
        lambda q4, f16: q4 - f16,
        lambda d: d <= Q4_K_M_TOLERANCE,
    ),
    "below_chance": _Claim(
        ("gated", "chance"), phrase("below chance, ln V"), lambda gated, chance: gated - chance, lambda d: d < 0
    ),
}


def quality_checks(stages: Stages, chance_loss: float | None) -> dict[str, Finding]:
    """Name -> finding for every claim; skipped where a stage did not run. A loss that is not finite is red."""
    losses = {stage: row.get("loss") for stage, row in stages.items()}
    if chance_loss is not None:
        losses["chance"] = chance_loss
    return {name: _judged(claim, losses) for name, claim in CLAIMS.items()} | {"same_tokens": _same_tokens(stages)}


def _judged(claim: _Claim, losses: dict[str, Any]) -> Finding:
    if absent := [stage for stage in claim.stages if stage not in losses]:
        return Finding(SKIPPED, phrase("{stages} not measured", stages=", ".join(absent)), claim.expected)
    values = [losses[stage] for stage in claim.stages]
    if not all(isinstance(value, float | int) and math.isfinite(value) for value in values):
        return Finding(FAIL, phrase("a loss is not a finite number"), claim.expected)
    difference = claim.difference(*values)
    measured = phrase("{difference} nats", difference=f"{difference:+.4f}")
    return Finding(PASS if claim.holds(difference) else FAIL, measured, claim.expected)


def _same_tokens(stages: Stages) -> Finding:
    """Losses can be compared only when they were taken over the same number of tokens."""
    expected = phrase("every stage measured on the same tokens")
    counts = {row.get("n_tokens") for row in stages.values()}
    if len(stages) < 2:
        return Finding(SKIPPED, phrase("fewer than two stages measured"), expected)
    measured = phrase("{counts} tokens", counts=", ".join(sorted(map(str, counts))))
    return Finding(PASS if len(counts) == 1 else FAIL, measured, expected)
