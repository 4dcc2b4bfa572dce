"""What stands at the top of the run log: the few numbers that tell whether the ritual came to its end, and how."""

from collections.abc import Callable
from typing import Any

from .document import Block, Figure, Figures, Text
from .phrases import Translate
from .quality import STAGE_TITLES
from .wording import NONE, duration, is_number, number, size, with_error


def summary(row: dict[str, Any], t: Translate) -> tuple[Block, ...]:
    """A sentence with the verdict, and the figures; what was not measured is a dash and says so."""
    tellers = (_loss, _equality, _file, _answers, _time)
    return Text(_verdict(row, t)), Figures(tuple(_readable(teller, row, t) for teller in tellers))


def _readable(teller: Callable[[dict[str, Any], Translate], Figure], row: dict[str, Any], t: Translate) -> Figure:
    """The figure, or a dash where a file of the run has a form that cannot be told; its chapter says which."""
    try:
        return teller(row, t)
    except (KeyError, TypeError, ValueError, AttributeError):
        return Figure(NONE, NONE, t("not measured"))


def _verdict(row: dict[str, Any], t: Translate) -> str:
    found = [finding["status"] for finding in row["indicators"].values()]
    said = t("{n} of {total} success indicators are green", n=found.count("pass"), total=len(found))
    if n := found.count("fail"):
        said += t(", {n} red", n=n)
    if n := found.count("skipped"):
        said += t(", {n} not measured", n=n)
    return said + t(".")


def _loss(row: dict[str, Any], t: Translate) -> Figure:
    stages = row["quality"]
    last = next((stage for stage in reversed(stages) if stage != "base"), None)
    title = t("Held-out loss, nats per token")
    if last is None or "base" not in stages:
        return Figure(title, NONE, t("not measured"))
    losses = [stages[stage].get("loss") for stage in ("base", last)]
    ends = [f"{loss:.3f}" if is_number(loss) else NONE for loss in losses]
    pair = stages[last].get("against_base")
    change = with_error(pair["difference"], pair["standard_error"], sign=True) if pair else NONE
    return Figure(
        title, " → ".join(ends), t("{stage}: {change} against the base", stage=t(STAGE_TITLES[last]), change=change)
    )


def _equality(row: dict[str, Any], t: Translate) -> Figure:
    claim = next((claim for claim in row["fusion_claims"] if claim["name"] == "max_abs_logit_diff"), None)
    title = t("Fused against gated, largest logit difference")
    if claim is None or claim["value"] is None:
        return Figure(title, NONE, t("not measured"))
    return Figure(title, number(claim["value"]), t("limit {limit}", limit=number(claim["limit"])))


def _file(row: dict[str, Any], t: Translate) -> Figure:
    title, files = t("Finished file"), row["export"]["files"]
    if not files:
        return Figure(title, NONE, t("not measured"))
    file = min(files, key=lambda file: file["bytes"])
    n_passed = sum(check["passed"] is True for check in file["checks"])
    told = t("{n_passed} of {n} checks passed", n_passed=n_passed, n=len(file["checks"]))
    return Figure(title, size(file["bytes"]), f"{file['type'].upper()}, {told}")


def _answers(row: dict[str, Any], t: Translate) -> Figure:
    answers, title = row["chat"]["answers"], t("Meaningful answers")
    if not answers:
        return Figure(title, NONE, t("not measured"))
    n_passed = sum(bool(answer["verdict"] and answer["verdict"]["passed"]) for answer in answers)
    return Figure(title, f"{n_passed} / {len(answers)}", t("whether they are true is not judged"))


def _time(row: dict[str, Any], t: Translate) -> Figure:
    steps = row["timings"]
    title = t("Time at work")
    if not steps:
        return Figure(title, NONE, t("not measured"))
    seconds = sum(timing["seconds"] for timing in steps.values())
    return Figure(title, duration(seconds, t), t("{n} finished steps", n=len(steps)))
