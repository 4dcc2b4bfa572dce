"""Held-out quality from base to GGUF, and what it must satisfy."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..evaluation.measurement import Measurement, Paired, load_measurement, paired
from ..evaluation.quality import quality_of
from ..failures import UserError
from ..gguf_export.file_types import FILE_TYPES
from .evidence import Evidence, Gap
from .findings import FAIL, PASS, SKIPPED, Finding, guarded, judged
from .phrases import Phrase, phrase

FOUR_BITS = "gated_dequantised_4bit"  # the gated model on the 4-bit base made wide again, where that was fused
STAGES = ("base", "lora", "gated_nf4", "gated", FOUR_BITS, "fused", *FILE_TYPES)
STAGE_TITLES = {
    "base": "base model",
    "lora": "LoRA alone",
    "gated_nf4": "gated, on 4-bit weights",
    "gated": "gated",
    FOUR_BITS: "gated, 4-bit weights made wide",
    "fused": "fused",
} | {kind: f"GGUF {kind.upper()}" for kind in FILE_TYPES}
MEASURED_BY = ("train", "fuse", "export")
OTHER_FILES = tuple(kind for kind in FILE_TYPES if kind not in ("f16", "q4_k_m"))
FUSED_TOLERANCE = 1e-3
ROUNDING = 1e-9  # relative; means are reckoned in float64 from the same numbers

Stages = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Tokens:
    """What a stage's file holds token by token: which step measured it, on which tokens (their hash)."""

    step: str
    measured: Measurement
    tokens: str


def read_stages(evidence: Evidence) -> tuple[Stages, list[Phrase]]:
    """Stage -> {loss, perplexity, n_tokens, standard_error, kl…}, in the order of the ritual; and what could not be
    read. Where the tokens' own losses are there, `against_base` and `against_previous` are paired differences.
    """
    found: Stages = {}
    gaps: list[Phrase] = []
    for step in MEASURED_BY:
        try:
            found |= _object(evidence, step)
        except Gap as gap:
            gaps.append(gap.phrase)
    stages = {stage: dict(found[stage]) for stage in STAGES if isinstance(found.get(stage), dict)}
    tokens = _readable(evidence, stages)
    for before, stage in zip([None, *stages], stages, strict=False):
        for name, other in (("against_base", "base"), ("against_previous", before)):
            if other and other != stage and (pair := pair_of(tokens, stage, other)):
                stages[stage][name] = {"stage": other} | pair._asdict()
    return stages, gaps


def _object(evidence: Evidence, step: str) -> dict[str, Any]:
    content = evidence.json(step, "quality.json")
    if not isinstance(content, dict):
        raise Gap(phrase("{file} is damaged", file=evidence.shown(evidence.path(step, "quality.json"))))
    return content


def read_tokens(evidence: Evidence, stages: Stages) -> dict[str, Tokens]:
    """The losses of single tokens of the stages that kept them; UserError if a file is damaged."""
    found = {}
    for stage in stages:
        for step in MEASURED_BY:
            path = evidence.path(step, f"measured/{stage}.safetensors")
            if path.is_file():
                measured, of = load_measurement(path)
                found[stage] = Tokens(step, measured, of.get("tokens", ""))
    return found


def pair_of(tokens: dict[str, Tokens], one: str, other: str) -> Paired | None:
    """The first stage's losses minus the other's; None where one is missing or was measured on other tokens."""
    if one not in tokens or other not in tokens or tokens[one].tokens != tokens[other].tokens:
        return None
    losses = tokens[one].measured.losses, tokens[other].measured.losses
    return paired(*losses) if losses[0].shape == losses[1].shape else None


def _readable(evidence: Evidence, stages: Stages) -> dict[str, Tokens]:
    try:
        return read_tokens(evidence, stages)
    except UserError:
        return {}  # the check of the figures says which file it is


@dataclass(frozen=True)
class _Claim:
    """`holds` gets the first stage's loss minus the second's, in nats."""

    stages: tuple[str, str]
    expected: Phrase
    holds: Callable[[float], bool]


def _below_base(stage: str) -> _Claim:
    return _Claim((stage, "base"), phrase("below the base model's loss"), lambda d: d < 0)


def _near_f16(kind: str) -> _Claim:
    limit = FILE_TYPES[kind].largest_loss
    return _Claim((kind, "f16"), phrase("at most {limit} nats above F16", limit=limit), lambda d: d <= limit)


def _near_fused(kind: str) -> _Claim:
    limit = FILE_TYPES[kind].largest_loss
    return _Claim(
        (kind, "fused"), phrase("at most {limit} nats above the fused model", limit=limit), lambda d: d <= limit
    )


def _equals_gated(stage: str) -> _Claim:
    expected = phrase("at most {limit} nats apart", limit=FUSED_TOLERANCE)
    return _Claim(("fused", stage), expected, lambda d: abs(d) <= FUSED_TOLERANCE)


CLAIMS: dict[str, _Claim] = {
    "gated_below_base": _below_base("gated"),
    "fused_below_base": _below_base("fused"),
    "f16_below_base": _below_base("f16"),
    "fused_equals_gated": _equals_gated("gated"),
    "q4_k_m_near_f16": _near_f16("q4_k_m"),
    "below_chance": _Claim(("gated", "chance"), phrase("below chance, ln V"), lambda d: d < 0),
}


def quality_checks(evidence: Evidence, stages: Stages, chance_loss: float | None) -> dict[str, Finding]:
    """Name -> finding for every claim; skipped where a stage did not run. A loss that is not finite is red.

    Claims are held against quality.json and, where the losses of single tokens are there, against these as well.
    """
    losses = {stage: row.get("loss") for stage, row in stages.items()}
    if chance_loss is not None:
        losses["chance"] = chance_loss
    tokens = _readable(evidence, stages)
    # Files beyond the usual two are held against the fused model, which every run has.
    claims = CLAIMS | ({"fused_equals_gated": _equals_gated(FOUR_BITS)} if FOUR_BITS in stages else {})
    claims |= {f"{kind}_near_fused": _near_fused(kind) for kind in stages if kind in OTHER_FILES}
    return {name: _judged(claim, losses, pair_of(tokens, *claim.stages)) for name, claim in claims.items()} | {
        "same_tokens": _same_tokens(stages, tokens),
        "figures_follow": _figures_follow(evidence, stages),
    }


def _judged(claim: _Claim, losses: dict[str, Any], pair: Paired | None) -> Finding:
    if absent := [stage for stage in claim.stages if stage not in losses]:
        return Finding(SKIPPED, phrase("{stages} not measured", stages=", ".join(absent)), claim.expected)
    one, other = (losses[stage] for stage in claim.stages)
    differences = [one - other] if _is_finite(one) and _is_finite(other) else [math.nan]
    if pair:
        differences.append(pair.difference)
    if not all(map(math.isfinite, differences)):
        return Finding(FAIL, phrase("a loss is not a finite number"), claim.expected)
    refuting = [difference for difference in differences if not claim.holds(difference)]
    shown = f"{(refuting or differences)[-1]:+.4f}" + (f" ± {pair.standard_error:.4f}" if pair else "")
    return Finding(FAIL if refuting else PASS, phrase("{difference} nats", difference=shown), claim.expected)


def _same_tokens(stages: Stages, tokens: dict[str, Tokens]) -> Finding:
    """Losses can be compared only when they were taken over the same tokens."""
    expected = phrase("every stage measured on the same tokens")
    counts = {row.get("n_tokens") for row in stages.values()}
    if len(stages) < 2:
        return Finding(SKIPPED, phrase("fewer than two stages measured"), expected)
    measured = phrase("{counts} tokens", counts=", ".join(sorted(map(str, counts))))
    same = len(counts) == 1 and len({row.tokens for row in tokens.values()}) <= 1
    return Finding(PASS if same else FAIL, measured, expected)


def _figures_follow(evidence: Evidence, stages: Stages) -> Finding:
    """Every figure of quality.json reckoned again from the losses of single tokens."""
    expected = phrase("every figure follows from the losses of the single tokens")

    def measure() -> Finding:
        tokens = read_tokens(evidence, stages)
        if not tokens:
            return Finding(SKIPPED, phrase("no losses of single tokens were kept"), expected)
        problems = []
        for stage, kept in tokens.items():
            reckoned = asdict(quality_of(kept.measured))
            wrong = [name for name, value in reckoned.items() if not _equal(stages[stage].get(name), value)]
            problems += [phrase("{stage}: {figure} is another one", stage=stage, figure=name) for name in wrong]
            problems += evidence.changes(kept.step, evidence.path(kept.step, f"measured/{stage}.safetensors"))
        measured = phrase("{n} of {n_stages} stages reckoned again", n=len(tokens), n_stages=len(stages))
        return judged(measured, expected, problems)

    return guarded(expected, measure)


def _is_finite(value: Any) -> bool:
    return isinstance(value, float | int) and math.isfinite(value)


def _equal(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return _is_finite(one) and _is_finite(other) and math.isclose(one, other, rel_tol=ROUNDING, abs_tol=1e-12)
