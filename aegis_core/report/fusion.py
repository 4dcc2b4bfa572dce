"""The proof of the fusion as the run log tells it: every figure against its limit, the loss reckoned once more."""

from typing import Any

from ..failures import UserError
from .evidence import Evidence, Gap
from .limits import FUSED_RECORD, HEAD_LIMIT, LOGIT_LIMITS, LOSS_LIMIT, TOP1_LIMIT
from .quality import FOUR_BITS, pair_of, read_tokens
from .wording import is_number

ORIGIN = ("base_sha256", "adapter_sha256", "soul_sha256", "merge_base", "calibrate", "norm_factor")


def fusion_claims(evidence: Evidence, proof: dict[str, Any]) -> list[dict[str, Any]]:
    """Each figure of the proof with its limit and whether it holds: name, value, error, limit, least, passed.

    The loss is there a second time, as the mean of the differences of single tokens, where both models' are kept.
    Nothing without a proof.
    """
    if not proof:
        return []
    limit = LOGIT_LIMITS.get(str(proof.get("dtype")))
    error = proof.get("loss_difference_standard_error")
    claims = [
        _claim("max_abs_logit_diff", proof.get("max_abs_logit_diff"), limit),
        _claim("loss_difference", proof.get("loss_difference"), LOSS_LIMIT, error),
    ]
    if (again := _reckoned(evidence)) is not None:
        claims.append(_claim("loss_difference_again", again[0], LOSS_LIMIT, again[1]))
    top1 = proof.get("top1_agreement")
    return [
        *claims,
        _claim("top1_agreement", top1, TOP1_LIMIT) | {"least": True, "passed": _within(top1, TOP1_LIMIT, 1.0)},
        _claim("head_difference", proof.get("head_difference"), HEAD_LIMIT),
    ]


def fusion_origin(evidence: Evidence) -> dict[str, Any] | None:
    """What the fused folder itself says it was made of; None where it says nothing."""
    records = [path for path in evidence.recorded("fuse") if path.name == FUSED_RECORD]
    try:
        origin = evidence.json_at(records[0]) if records else None
    except Gap:
        return None
    return {name: origin.get(name) for name in ORIGIN} if isinstance(origin, dict) else None


def _claim(name: str, value: Any, limit: float | None, error: Any = None) -> dict[str, Any]:
    size = abs(value) if is_number(value) else None
    passed = limit is not None and _within(size, 0.0, limit)
    return {"name": name, "value": value, "error": error, "limit": limit, "least": False, "passed": passed}


def _within(value: Any, low: float, high: float) -> bool:
    return is_number(value) and low <= value <= high


def _reckoned(evidence: Evidence) -> tuple[float, float] | None:
    """Fused minus what was merged into, and its standard error, from the losses of single tokens."""
    try:
        tokens = read_tokens(evidence, {"gated": {}, FOUR_BITS: {}, "fused": {}})
    except UserError:
        return None
    pair = pair_of(tokens, "fused", FOUR_BITS if FOUR_BITS in tokens else "gated")
    return (pair.difference, pair.standard_error) if pair else None
