"""What the control runs say: whether the gate helped, and whether the loss shows a transition."""

from typing import Any

from ..data.packed import load_packed
from ..failures import UserError
from ..soul.transition import MIN_ORDERS, MIN_STEPS
from ..training.arms import CONTROL_KINDS, FINISHED, LOSSES, MAIN, Arm, Kind, finished
from ..training.comparison import compare
from .document import Block, Cell, Missing, Picture, Section, Table, Text
from .evidence import Evidence, Gap
from .phrases import Phrase, Translate, phrase
from .wording import count, number, with_error

ARM_TITLES = {"gated": "gated", "lora": "LoRA alone", "fixed": "gate fixed open"}
VERDICT_TITLES = {"helped": "helped", "hurt": "hurt", "no_difference": "made no difference"}
OUTCOME_TITLES = {"observed": "it changes", "not_observed": "no change", "not_measured": "not measured"}
ROTATION_SENTENCES = {
    "helped": "The rotation behind its gate helped: its held-out loss is {difference} nats per token below LoRA alone, "
    "± {error}.",
    "hurt": "The rotation behind its gate hurt: its held-out loss is {difference} nats per token above LoRA alone, "
    "± {error}.",
    "no_difference": "The rotation behind its gate made no difference: its held-out loss is {difference} nats per "
    "token from that of LoRA alone, ± {error}.",
}
ANNEALING_SENTENCES = {
    "helped": "Opening the gate slowly helped: {difference} nats per token below a gate that is open from the start, "
    "± {error}.",
    "hurt": "Opening the gate slowly hurt: {difference} nats per token above a gate that is open from the start, "
    "± {error}.",
    "no_difference": "Opening the gate slowly made no difference: {difference} nats per token from a gate that is open "
    "from the start, ± {error}.",
}
ONE_ORDER = (
    "This is said of one data order: the error counts the held-out data alone, and another order may fall out "
    "differently."
)
REASON_SENTENCES = {
    "no_control": "Whether the loss shows a transition was not measured: it needs both controls.",
    "too_few_orders": "Whether the loss shows a transition was not measured: it needs at least {n_orders} data orders.",
    "too_few_steps": "Whether the loss shows a transition was not measured: it needs at least {n_steps} steps.",
    "zero_variance": "Whether the loss shows a transition was not measured: the runs differ by no more than rounding.",
    "not_finite": "Whether the loss shows a transition was not measured: a loss is not a finite number.",
}


def read_controls(evidence: Evidence) -> tuple[dict[str, Any] | None, list[Phrase]]:
    """arms, paired and transition as in control.json, reckoned anew from the arms' own files.

    None where no control has run, or where what is said beside it stands against it.
    """
    train = evidence.run.step_folder("train")
    arms = list(finished(train))
    if all(arm.kind == MAIN.kind for arm in arms):
        return None, []
    held_out = evidence.path("prepare", "held_out.safetensors")
    files = [path for arm in arms for path in _files(arm, evidence)]
    problems = [*evidence.changes("train", *files), *evidence.changes("prepare", held_out)]
    if problems:
        return None, problems
    try:
        return compare(arms, train, load_packed(held_out)).row(), []
    except (UserError, ValueError, KeyError, TypeError):
        return None, [phrase("{file} is damaged", file="train/control")]


def read_curves(evidence: Evidence) -> dict[Kind, list[dict[str, Any]]]:
    """Kind -> rows with step and loss, of the gated run and the controls of the same data order; empty without any."""
    train = evidence.run.step_folder("train")
    curves: dict[Kind, list[dict[str, Any]]] = {}
    for arm in (MAIN, *(Arm(kind, MAIN.order) for kind in CONTROL_KINDS)):
        try:
            curves[arm.kind] = evidence.rows("train", arm.metrics(train).relative_to(train).as_posix())
        except Gap:
            continue
    return curves if MAIN.kind in curves and len(curves) > 1 else {}


def _files(arm: Arm, evidence: Evidence) -> list[Any]:
    train = evidence.run.step_folder("train")
    folder = arm.folder(train)
    return [folder / LOSSES, folder / FINISHED, arm.metrics(train)]


def controls_section(row: dict[str, Any] | None, problems: tuple[Phrase, ...], t: Translate) -> Section:
    """The whole chapter; without controls it says what therefore is not known."""
    blocks: list[Block] = [Missing(t("{gap}: the comparison cannot be shown.", gap=t(what))) for what in problems]
    if row is None:
        unknown = t(
            "No control was run, so two things were not measured: whether the rotation helped, and whether the loss "
            "shows a transition. The settings control.lora and control.fixed run them, also after the training."
        )
        return Section(t("Control runs"), tuple(blocks or [Text(unknown)]))
    compared = t(
        "The same training on the same data in the same order, from the same adapter: without the gate, and with the "
        "gate at its target from the first step. Differences are gated minus control; below zero the gated run is "
        "better."
    )
    blocks += [Text(compared), *_verdicts(row["paired"], t)]
    blocks.append(Picture("controls", t("Loss of the gated run and its controls, and what they differ by")))
    blocks += [_differences(row["paired"], t), _arms(row["arms"], t), *_transition(row["transition"], t)]
    return Section(t("Control runs"), tuple(blocks))


def _verdicts(paired: dict[str, dict[str, Any]], t: Translate) -> list[Block]:
    blocks: list[Block] = []
    for name, sentences in (("gated_minus_lora", ROTATION_SENTENCES), ("gated_minus_fixed", ANNEALING_SENTENCES)):
        if name in paired:
            pair = paired[name]
            size = f"{pair['nats']:+.4f}" if pair["verdict"] == "no_difference" else f"{abs(pair['nats']):.4f}"
            blocks.append(Text(t(sentences[pair["verdict"]], difference=size, error=f"{pair['standard_error']:.4f}")))
    if any(pair["n_orders"] == 1 for pair in paired.values()):
        blocks.append(Text(t(ONE_ORDER)))
    return blocks


def _differences(paired: dict[str, dict[str, Any]], t: Translate) -> Table:
    header = (t("control"), t("gated minus control, nats per token"), t("verdict"), t("data orders"), t("tokens"))
    rows: list[tuple[Cell, ...]] = [
        (
            t(ARM_TITLES[name.removeprefix("gated_minus_")]),
            with_error(pair["nats"], pair["standard_error"], sign=True),
            t(VERDICT_TITLES[pair["verdict"]]),
            str(pair["n_orders"]),
            count(pair["n_tokens"]),
        )
        for name, pair in paired.items()
    ]
    return Table(header, tuple(rows), frozenset({1, 3, 4}))


def _arms(arms: dict[str, dict[str, Any]], t: Translate) -> Table:
    header = (t("training"), t("data order"), t("held-out loss"), t("perplexity"))
    rows: list[tuple[Cell, ...]] = []
    for name, quality in arms.items():
        kind, _, order = name.partition("-")
        loss = with_error(quality["loss"], quality["standard_error"])
        rows.append((t(ARM_TITLES[kind]), str(int(order) + 1), loss, number(quality["perplexity"])))
    return Table(header, tuple(rows), frozenset({1, 2, 3}), t("Every training of the comparison"))


def _transition(found: dict[str, Any], t: Translate) -> list[Block]:
    """The outcome in a sentence and the pairs it rests on; a pair alone is no evidence and is not shown."""
    if found["outcome"] == "not_measured":
        return [Text(t(REASON_SENTENCES[found["reason"]], n_orders=MIN_ORDERS, n_steps=MIN_STEPS))]
    if found["outcome"] == "observed":
        sentence = t(
            "A transition is observed at step {step} (within {tolerance} steps), against both controls in {n_agreeing} "
            "of {n_orders} data orders: {lora} nats against LoRA alone, {fixed} nats against the open gate.",
            step=found["step"],
            tolerance=found["tolerance"],
            n_agreeing=found["n_agreeing"],
            n_orders=found["n_orders"],
            lora=f"{found['sizes']['lora']:+.4f}",
            fixed=f"{found['sizes']['fixed']:+.4f}",
        )
    else:
        sentence = t(
            "No transition is observed: {n_agreeing} of {n_orders} data orders change against both controls at one "
            "step; {needed} would be needed.",
            n_agreeing=found["n_agreeing"],
            n_orders=found["n_orders"],
            needed=max(MIN_ORDERS, -(-found["n_orders"] // 2)),
        )
    header = (
        t("control"), t("data order"), t("outcome"), t("step"), t("size, nats"), t("statistic"), t("critical value"),
        t("noise, nats"),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = [
        (
            t(ARM_TITLES[kind]),
            str(order),
            t(OUTCOME_TITLES[change["outcome"]]),
            "–" if change["step"] is None else str(change["step"]),
            with_error(change["size"], change["standard_error"], sign=True),
            number(change["statistic"]),
            number(change["critical"]),
            number(change["noise"]),
        )
        for kind, changes in found["pairs"].items()
        for order, change in enumerate(changes, start=1)
    ]
    return [Text(sentence), Table(header, tuple(rows), frozenset(range(3, 8)), t("Every pair of the comparison"))]
