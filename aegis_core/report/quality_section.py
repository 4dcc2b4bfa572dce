"""The section on quality: what was measured at every stage, and the verdicts on it."""

from collections.abc import Mapping
from typing import Any

from .document import Block, Cell, Mark, Missing, Picture, Section, Table, Text, Words
from .findings import Finding
from .phrases import Phrase, Translate
from .quality import STAGE_TITLES, Stages
from .wording import NONE, count, interval, number, with_error, with_minus

QUALITY_TITLES = {
    "gated_below_base": "Gated model better than the base",
    "fused_below_base": "Fused model better than the base",
    "f16_below_base": "F16 file better than the base",
    "fused_equals_gated": "Fused as good as gated",
    "q4_k_m_near_f16": "Q4_K_M near F16",
    "f32_near_fused": "F32 near the fused model",
    "bf16_near_fused": "BF16 near the fused model",
    "q8_0_near_fused": "Q8_0 near the fused model",
    "q6_k_near_fused": "Q6_K near the fused model",
    "q5_k_m_near_fused": "Q5_K_M near the fused model",
    "q4_k_s_near_fused": "Q4_K_S near the fused model",
    "below_chance": "Gated model better than chance",
    "same_tokens": "Stages comparable",
    "figures_follow": "Figures reckoned again",
}


def verdict_table(findings: Mapping[str, Finding], titles: Mapping[str, str], t: Translate) -> Table:
    rows = []
    for name, finding in findings.items():
        problems = "; ".join(map(t, finding.problems))
        measured = t(finding.measured) + (f" — {problems}" if problems else "")
        measured += "".join(f" — {t(remark)}" for remark in finding.remarks)
        rows.append(
            (t(titles[name]), Mark(finding.status, t(finding.status)), Words(with_minus(measured)), t(finding.expected))
        )
    return Table((t("claim"), t("verdict"), t("measured"), t("expected")), tuple(rows))


def quality_section(stages: Stages, checks: Mapping[str, Finding], gaps: tuple[Phrase, ...], t: Translate) -> Section:
    """Every stage with its figures, and the claims on them."""
    blocks: list[Block] = [
        Text(t("Mean loss on text that was kept aside, the same tokens at every stage; smaller is better.")),
        Picture("quality", t("Held-out loss at every stage, with its standard error")),
    ]
    if stages:
        blocks += [quality_table(stages, t), Text(explained(stages, t))]
    blocks += [Missing(t("{gap}: no quality of that step can be shown.", gap=t(what))) for what in gaps]
    blocks.append(verdict_table(checks, QUALITY_TITLES, t))
    return Section(t("Quality from base to GGUF"), tuple(blocks))


def quality_table(stages: Stages, t: Translate) -> Table:
    """A row for each stage: its loss, what it gained and lost, and how sure that is."""
    rows: list[tuple[Cell, ...]] = [
        (
            t(STAGE_TITLES[name]),
            with_error(q.get("loss"), q.get("standard_error")),
            _paired(q.get("against_base")),
            _interval(q.get("against_base")),
            _paired(q.get("against_previous")),
            number(q.get("perplexity")),
            NONE if name == "base" else with_error(q.get("kl"), q.get("kl_standard_error")),
        )
        for name, q in stages.items()
    ]
    header = (
        t("stage"),
        t("loss, nats per token"),
        t("against the base"),
        t("95 % interval"),
        t("against the stage before"),
        t("perplexity"),
        t("KL to the base, nats"),
    )
    return Table(header, tuple(rows), frozenset(range(1, len(header))))


def explained(stages: Stages, t: Translate) -> str:
    """What the figures with ± are, and how far KL can be trusted."""
    counts = {q.get("n_tokens") for q in stages.values()}
    said = [t("{n} tokens at every stage.", n=count(*counts))] if len(counts) == 1 else []
    said += [
        t(
            "± is the standard error of a mean over tokens. Differences are paired, token by token, so their error is "
            "smaller than that of the two losses."
        )
    ]
    n_tokens = next((n for q in stages.values() if (n := q.get("kl_tokens"))), None)
    if n_tokens:
        said.append(t("KL(base ‖ stage) was taken at {n} of the tokens.", n=count(n_tokens)))
    resolution = stages.get("base", {}).get("kl")
    if resolution is not None:
        said.append(t("Keeping the base's predictions in 16 bits moves it by {kl} nats.", kl=number(resolution)))
    return t.together(*said)


def _paired(pair: dict[str, Any] | None) -> str:
    return with_error(pair["difference"], pair["standard_error"], sign=True) if pair else NONE


def _interval(pair: dict[str, Any] | None) -> str:
    return interval(pair["difference"], pair["standard_error"]) if pair else NONE
