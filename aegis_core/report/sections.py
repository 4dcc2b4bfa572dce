"""What the run log tells, in which order, in the user's language."""

from collections.abc import Mapping
from typing import Any

from ..freshness import State
from . import background
from .answers import answers_section
from .controls import controls_section
from .document import Block, Cell, Document, Mark, Missing, Picture, Section, Table, Text, facts_table, gap
from .findings import Finding
from .phrases import STEP_TITLES, Translate
from .record import Record
from .wording import count, number, size, with_error

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
    """The whole log."""
    row = record.row
    sections = (
        _indicators(record, t),
        _quality(record, t),
        _training(row, t),
        controls_section(row["control"], record.control_problems, t),
        _fusion(row, t),
        _export(row, t),
        answers_section(row, t),
        background.studies(row, t),
        background.data(row, t),
        background.environment(row, t),
        background.plan(row, t),
        background.files(row, t),
        background.commands(row, t),
    )
    subtitle = t(
        "Run {run}, written {time} by AEGIS {version}", run=row["run"], time=row["made_at"], version=_version(row)
    )
    return Document(row["language"], t("AEGIS run log"), subtitle, sections)


def _version(row: dict[str, Any]) -> str:
    return str(row["versions"].get("AEGIS") or "–")


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
        rows.append((t(titles[name]), Mark(finding.status, t(finding.status)), measured, t(finding.expected)))
    return Table((t("claim"), t("verdict"), t("measured"), t("expected")), tuple(rows))


def _quality(record: Record, t: Translate) -> Section:
    stages = record.row["quality"]
    rows: list[tuple[Cell, ...]] = [
        (
            t(name),
            with_error(q.get("loss"), q.get("standard_error")),
            _paired(q.get("against_base")),
            _paired(q.get("against_previous")),
            number(q.get("perplexity")),
            "–" if name == "base" else with_error(q.get("kl"), q.get("kl_standard_error")),
            count(q.get("n_tokens")),
        )
        for name, q in stages.items()
    ]
    header = (
        t("stage"),
        t("loss, nats per token"),
        t("against the base"),
        t("against the stage before"),
        t("perplexity"),
        t("KL to the base, nats"),
        t("tokens"),
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
    said = [
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
    return with_error(pair["difference"], pair["standard_error"], sign=True) if pair else "–"


def _step(step: int | None, t: Translate) -> str:
    return "–" if step is None else t("step {step}", step=step)


def _training(row: dict[str, Any], t: Translate) -> Section:
    training, summary = row["training"], row["training"]["summary"]
    if summary is None:
        return gap(t(STEP_TITLES["train"]), t)
    points = training["schedule"]
    facts = [
        (t("schedule"), t(points["kind"])),
        (t("critical point"), _step(points["critical_step"], t)),
        (t("gate half open"), _step(points["half_open_step"], t)),
        (t("alpha at the end"), number(summary.get("alpha_final"))),
        (t("gate at the end, σ(α)"), number(points["gate_final"])),
        (t("mean rotation angle, radians"), number(summary.get("rotation_angle"))),
        (t("largest |RᵀR − I|"), number(summary.get("orthogonality_error"))),
        (t("chance loss, ln V"), number(training["chance_loss"])),
        (t("tokens trained on"), count(summary.get("tokens"))),
        (t("seconds in steps"), number(summary.get("seconds_in_steps"))),
    ]
    header = (t("phase"), t("steps"), t("alpha"), t("mean loss"))
    phases = [
        (
            t(phase["phase"]),
            f"{phase['first_step']}–{phase['last_step']}",
            f"{number(phase['alpha_from'])} → {number(phase['alpha_to'])}",
            number(phase["mean_loss"]),
        )
        for phase in training["phases"]
    ]
    return Section(
        t(STEP_TITLES["train"]),
        (
            Picture("loss", t("Loss over the steps, with the base model's loss and chance")),
            Picture("alpha", t("Alpha and gate over the steps, with critical point and half-open gate")),
            Table(header, tuple(phases), frozenset({3})),
            Text(t("Phases are those of the alpha schedule; they say nothing about the loss.")),
            facts_table(facts, t),
        ),
    )


def _fusion(row: dict[str, Any], t: Translate) -> Section:
    proof = row["fusion"]
    if "limits" not in proof:
        return gap(t(STEP_TITLES["fuse"]), t)
    limits = proof["limits"]
    signs = {"top1_agreement": "≥"}
    titles = {
        "max_abs_logit_diff": t("largest difference of a logit"),
        "loss_difference": t("difference of the loss, nats"),
        "top1_agreement": t("same first choice, share of tokens"),
        "head_difference": t("head and norm folded in float32, share of the logit range"),
    }
    error = proof.get("loss_difference_standard_error")
    errors = {"loss_difference": "" if error is None else f" ± {error:.2g}"}
    rows = [
        (
            titles[name],
            number(proof.get(name)) + errors.get(name, ""),
            f"{signs.get(name, '≤')} {number(limits.get(name))}",
        )
        for name in titles
    ]
    facts = t("Checkpoint in {dtype}, both models computed in {computed}; {n} tokens.", dtype=proof.get("dtype"),
              computed=proof.get("computed_in"), n=count(proof.get("n_tokens")))  # fmt: skip
    explained = t(
        "The gated model (unmerged adapter, gate and rotation) and the fused folder, on the same held-out tokens."
    )
    table = Table((t("claim"), t("measured"), t("limit")), tuple(rows), frozenset({1, 2}))
    return Section(t(STEP_TITLES["fuse"]), (Text(explained), table, Text(facts)))


def _export(row: dict[str, Any], t: Translate) -> Section:
    files = row["export"]["files"]
    if not files:
        return gap(t(STEP_TITLES["export"]), t)
    blocks: list[Block] = []
    header = (t("file"), t("type"), t("size"), t("tensors"), "SHA-256")
    rows = [(f["path"], f["type"], size(f["bytes"]), _kinds(f), f["sha256"]) for f in files]
    blocks.append(Table(header, tuple(rows), frozenset({2})))
    checks = [
        (
            f["type"],
            check["name"],
            Mark("pass" if check["passed"] is True else "fail", t("pass" if check["passed"] is True else "fail")),
            str(check["measured"]),
            str(check["expected"]),
        )
        for f in files
        for check in f["checks"]
    ]
    blocks.append(Table((t("file"), t("check"), t("verdict"), t("measured"), t("expected")), tuple(checks)))
    note = t("The quality of GGUF files is that of their own tensors, dequantised and run in torch.")
    return Section(t(STEP_TITLES["export"]), (*blocks, Text(note)))


def _kinds(file: dict[str, Any]) -> str:
    kinds = ", ".join(f"{n} {kind}" for kind, n in file.get("tensor_types", {}).items())
    return f"{file.get('n_tensors')} ({kinds})" if kinds else str(file.get("n_tensors"))
