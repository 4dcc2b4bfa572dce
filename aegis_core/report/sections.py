"""What the run log tells, in which order, in the user's language."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .. import __version__
from ..freshness import State
from . import background
from .answers import answers_section
from .controls import controls_section
from .document import Block, Cell, Document, Mark, Missing, Picture, Section, Table, Text, Words
from .findings import Finding
from .phrases import STEP_TITLES, Translate
from .quality import STAGE_TITLES
from .record import Record
from .results import export_section, fusion_section, training_section
from .summary import summary
from .wording import NONE, count, date, interval, number, with_error

INDICATOR_TITLES = {
    "training_completed": "Training completed all its steps",
    "alpha_reached": "Alpha reached the golden ratio",
    "soul_saved": "Adapter, gate and rotation saved",
    "fusion_equal": "Fusion equal to the gated model",
    "gguf_verified": "GGUF written and verified",
    "ollama_loaded": "Loads in Ollama",
    "answer_meaningful": "Meaningful answer to a physics question",
}
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


def compose(record: Record, t: Translate) -> Document:
    """The whole log: the verdicts, then the ritual in its order, then what it takes to check and repeat it."""
    row = record.row
    sections = {
        "indicators": _indicators(record, t),
        "quality": _quality(record, t),
        "data": background.data(row, t),
        "studies": background.studies(row, t),
        "training": training_section(row, t),
        "controls": controls_section(row["control"], record.control_problems, t),
        "fusion": fusion_section(row, t),
        "gguf": export_section(row, t),
        "answers": answers_section(row, t),
        "environment": background.environment(row, t),
        "course": background.course(row, t),
        "plan": background.plan(row, t),
        "files": background.files(row, t),
        "repeat": background.commands(row, t),
    }
    subtitle = t("Written on {time} by AEGIS {version}", time=date(row["made_at"], t), version=_version(row))
    return Document(
        t.language,
        row["run"],
        subtitle,
        tuple(replace(section, anchor=anchor) for anchor, section in sections.items()),
        kicker=t("AEGIS run log"),
        lead=summary(row, t),
        contents=t("Contents"),
    )


def _version(row: dict[str, Any]) -> str:
    return str(row["versions"].get("AEGIS") or __version__)


def _indicators(record: Record, t: Translate) -> Section:
    blocks: list[Block] = [_verdicts(record.indicators, INDICATOR_TITLES, t)]
    for step in record.row["gaps"]:
        stale = record.row["steps"][step] == State.STALE
        text = (
            t("The result of this step no longer fits: {title}.", title=t(STEP_TITLES[step]))
            if stale
            else t("This step has no finished result: {title}.", title=t(STEP_TITLES[step]))
        )
        blocks.append(Missing(text))
    return Section(t("Success indicators"), tuple(blocks))


def _verdicts(findings: Mapping[str, Finding], titles: Mapping[str, str], t: Translate) -> Table:
    rows = []
    for name, finding in findings.items():
        problems = "; ".join(map(t, finding.problems))
        measured = t(finding.measured) + (f" — {problems}" if problems else "")
        measured += "".join(f" — {t(remark)}" for remark in finding.remarks)
        rows.append((t(titles[name]), Mark(finding.status, t(finding.status)), Words(measured), t(finding.expected)))
    return Table((t("claim"), t("verdict"), t("measured"), t("expected")), tuple(rows))


def _quality(record: Record, t: Translate) -> Section:
    stages = record.row["quality"]
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
    blocks: list[Block] = [
        Text(t("Mean loss on text that was kept aside, the same tokens at every stage; smaller is better.")),
        Picture("quality", t("Held-out loss at every stage, with its standard error")),
    ]
    if rows:
        blocks += [Table(header, tuple(rows), frozenset(range(1, len(header)))), Text(_explained(stages, t))]
    blocks += [Missing(t("{gap}: no quality of that step can be shown.", gap=t(what))) for what in record.gaps]
    blocks.append(_verdicts(record.quality_checks, QUALITY_TITLES, t))
    return Section(t("Quality from base to GGUF"), tuple(blocks))


def _explained(stages: dict[str, dict[str, Any]], t: Translate) -> str:
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
    return " ".join(said)


def _paired(pair: dict[str, Any] | None) -> str:
    return with_error(pair["difference"], pair["standard_error"], sign=True) if pair else NONE


def _interval(pair: dict[str, Any] | None) -> str:
    return interval(pair["difference"], pair["standard_error"]) if pair else NONE
