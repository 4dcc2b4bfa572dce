"""The sections of the run log about what was made: the training, the fused model, the GGUF files."""

from typing import Any

from .document import Block, Cell, Fold, Mark, Mono, Picture, Section, Table, Text, Words, facts_table, gap
from .phrases import STEP_TITLES, Translate
from .wording import NONE, count, duration, number, rough, size

FUSION_TITLES = {
    "max_abs_logit_diff": "largest difference of a logit",
    "loss_difference": "difference of the loss, nats",
    "loss_difference_again": "the same, reckoned again from the losses of single tokens",
    "top1_agreement": "same first choice, share of tokens",
    "head_difference": "head and norm folded in float32, share of the logit range",
}
NOW = {"same": ("pass", "unchanged"), "changed": ("fail", "changed"), "missing": ("missing", "missing")}


def training_section(row: dict[str, Any], t: Translate) -> Section:
    training, summary = row["training"], row["training"]["summary"]
    if summary is None:
        return gap(t(STEP_TITLES["train"]), t)
    points = training["schedule"]
    facts: list[tuple[str, Cell]] = [
        (t("schedule"), t(points["kind"])),
        (t("critical point"), _step(points["critical_step"], t)),
        (t("gate half open"), _step(points["half_open_step"], t)),
        (t("alpha at the end"), number(summary.get("alpha_final"))),
        (t("gate at the end, σ(α)"), number(points["gate_final"])),
        (t("mean rotation angle, radians"), number(summary.get("rotation_angle"))),
        (t("largest |RᵀR − I|"), number(summary.get("orthogonality_error"))),
        (t("chance loss, ln V"), number(training["chance_loss"])),
        (t("tokens trained on"), count(summary.get("tokens"))),
        (t("time in steps"), duration(summary.get("seconds_in_steps"), t)),
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
            Table(header, tuple(phases), frozenset({3}), caption=t("Phases of the alpha schedule")),
            Text(t("Phases are those of the alpha schedule; they say nothing about the loss.")),
            facts_table(facts, t),
        ),
    )


def fusion_section(row: dict[str, Any], t: Translate) -> Section:
    proof = row["fusion"]
    if not row["fusion_claims"]:
        return gap(t(STEP_TITLES["fuse"]), t)
    explained = t(
        "The gated model (unmerged adapter, gate and rotation) and the fused folder, on the same held-out tokens."
    )
    facts = t("Checkpoint in {dtype}, both models computed in {computed}; {n} tokens.", dtype=proof.get("dtype"),
              computed=proof.get("computed_in"), n=count(proof.get("n_tokens")))  # fmt: skip
    blocks: list[Block] = [Text(explained), fusion_table(row["fusion_claims"], t), Text(facts)]
    if origin := row["fusion_origin"]:
        made_of: list[tuple[str, Cell]] = [
            (t("base model, SHA-256"), Mono(str(origin["base_sha256"] or NONE))),
            (t("adapter, SHA-256"), Mono(str(origin["adapter_sha256"] or NONE))),
            (t("gate and rotation, SHA-256"), Mono(str(origin["soul_sha256"] or NONE))),
            (t("factor on the final norm"), number(origin["norm_factor"])),
        ]
        blocks.append(Table((t("made of"), t("value")), tuple(made_of)))
    return Section(t(STEP_TITLES["fuse"]), tuple(blocks))


def fusion_table(claims: list[dict[str, Any]], t: Translate) -> Table:
    """Every figure of the proof against its limit."""
    header = (t("claim"), t("verdict"), t("measured"), t("limit"))
    return Table(header, tuple(_claim(claim, t) for claim in claims), frozenset({2, 3}))


def _claim(claim: dict[str, Any], t: Translate) -> tuple[Cell, ...]:
    status = "pass" if claim["passed"] else "fail"
    error = "" if claim["error"] is None else f" ± {rough(claim['error'])}"
    limit = NONE if claim["limit"] is None else f"{'≥' if claim['least'] else '≤'} {number(claim['limit'])}"
    return t(FUSION_TITLES[claim["name"]]), Mark(status, t(status)), number(claim["value"]) + error, limit


def export_section(row: dict[str, Any], t: Translate) -> Section:
    files = row["export"]["files"]
    if not files:
        return gap(t(STEP_TITLES["export"]), t)
    header = (t("file"), t("size"), t("tensors"), t("on disk now"), "SHA-256")
    now = {file["path"]: file["now"] for file in row["files"]}
    rows = [
        (Mono(f["path"]), size(f["bytes"]), _kinds(f), on_disk(now.get(f["path"], "missing"), t), Mono(f["sha256"]))
        for f in files
    ]
    note = t("The quality of GGUF files is that of their own tensors, dequantised and run in torch.")
    checks = tuple(_checks(file, t) for file in files)
    return Section(t(STEP_TITLES["export"]), (Table(header, tuple(rows), frozenset({1})), *checks, Text(note)))


def on_disk(state: str, t: Translate) -> Mark:
    """How a file compares with what its step recorded."""
    status, word = NOW[state]
    return Mark(status, t(word))


def _checks(file: dict[str, Any], t: Translate) -> Fold:
    """Every check of one file; folded, but red ones are told in its title."""
    n_passed = sum(check["passed"] is True for check in file["checks"])
    status = "pass" if file["checks"] and n_passed == len(file["checks"]) else "fail"
    told = t("{n_passed} of {n} checks passed", n_passed=n_passed, n=len(file["checks"]))
    rows: list[tuple[Cell, ...]] = []
    for check in file["checks"]:
        mark = "pass" if check["passed"] is True else "fail"
        said = t.told(str(check["measured"])), t.told(str(check["expected"]))
        rows.append((t.told(str(check["name"])), Mark(mark, t(mark)), *map(Words, said)))
    header = (t("check"), t("verdict"), t("measured"), t("expected"))
    return Fold(str(file["type"]).upper(), (Mark(status, told),), (Table(header, tuple(rows)),))


def _kinds(file: dict[str, Any]) -> str:
    kinds = ", ".join(f"{n} {kind}" for kind, n in file.get("tensor_types", {}).items())
    return f"{file.get('n_tensors')} ({kinds})" if kinds else str(file.get("n_tensors"))


def _step(step: int | None, t: Translate) -> str:
    return NONE if step is None else t("step {step}", step=step)
