"""The sections of the run log that say under which circumstances its results came about."""

import math
from statistics import mean, stdev
from typing import Any

from .document import Block, Code, Mark, Missing, Picture, Section, Table, Text, facts_table, gap
from .facts import flat
from .phrases import STEP_TITLES, Translate
from .wording import count, number, plain, settings, size

MODEL_FACTS = {
    "source": "base model",
    "revision": "revision",
    "architecture": "architecture",
    "license": "licence",
    "sha256": "SHA-256 of its weights",
}
DATA_PARTS = {"train": "trained on", "held_out": "kept aside"}
PEAKS = {"peak_ram_own_bytes": "most RAM used by AEGIS", "peak_vram_own_bytes": "most VRAM used by AEGIS"}


def studies(row: dict[str, Any], t: Translate) -> Section:
    blocks: list[Block] = []
    for step, study in row["studies"].items():
        title = t(STEP_TITLES[step])
        if study is None:
            blocks.append(Text(t("{title}: not run.", title=title)))
            continue
        states = ", ".join(f"{t(state)} {n}" for state, n in study["states"].items())
        blocks.append(Text(t("{title}: {sampler}, seed {seed}; {states}.", title=title, sampler=study["sampler"],
                             seed=study["seed"], states=states)))  # fmt: skip
        if n_random := (study["best"] or {}).get("n_random"):
            blocks.append(Text(t("The first {n} trials were drawn at random, the others from what had been learned.",
                                 n=n_random)))  # fmt: skip
        blocks.append(Text(t("Searched: {space}", space=settings(study["space"]))))
        if study["shared_in"]:
            blocks.append(Text(t("The trials are shared in {place}.", place=study["shared_in"])))
        blocks.append(Picture(step, t("Values of the trials and the best so far")))
        if best := study["best"]:
            planned = flat(row["plan"])
            changes = [(name, plain(value), plain(planned.get(name))) for name, value in best["changes"].items()]
            blocks.append(Text(t("Best value: {value} in trial {number}.", value=number(best["value"]),
                                 number=best.get("number", 0) + 1)))  # fmt: skip
            blocks += _worth(best, t) if step == "search" else _schedule_worth(best, t)
            blocks.append(Table((t("setting"), t("best"), t("in the plan")), tuple(changes)))
        trials = [
            (
                str(trial["number"] + 1),
                t(trial["state"]),
                number(trial["value"]),
                settings(trial["params"]),
                trial["reason"],
            )
            for trial in study["trials"]
        ]
        header = (t("trial"), t("state"), t("value"), t("settings"), t("reason"))
        blocks.append(Table(header, tuple(trials), frozenset({0, 2}), t("All trials")))
    return Section(t("Studies"), tuple(blocks))


def _worth(best: dict[str, Any], t: Translate) -> list[Block]:
    """The best against the settings there were before, on the same tokens, and both again on other seeds."""
    blocks: list[Block] = []
    present = best.get("present")
    if present and present["value"] is None:
        blocks.append(Text(t("The settings before the search came to no score: {problem}", problem=present["reason"])))
    elif present:
        shown = {
            "before": number(present["value"]),
            "gain": f"{best['better_by']:+.4f}",
            "tokens": count(best["tokens"]),
        }
        sentence = (
            "The settings before the search came to {before} on the same {tokens} tokens: the best gains {gain} nats."
            if best["better_by"] > 0
            else "The settings before the search came to {before} on the same {tokens} tokens: no trial is better "
            "({gain} nats), so they were kept."
        )
        blocks.append(Text(t(sentence, **shown)))
    if repeats := best.get("repeats"):
        rows = [(str(row["seed"]), number(row["best"]), number(row["present"])) for row in repeats]
        blocks.append(
            Table((t("seed"), t("best"), t("before the search")), tuple(rows), frozenset({0, 1, 2}), t("Other seeds"))
        )
        blocks += _on_other_seeds(repeats, t)
    return blocks


def _on_other_seeds(repeats: list[dict[str, Any]], t: Translate) -> list[Block]:
    """Mean and standard error of what the best settings change, over the seeds on which both came to a loss."""
    changes = [row["best"] - row["present"] for row in repeats if None not in (row["best"], row["present"])]
    if len(changes) < 2:
        return []
    error = stdev(changes) / math.sqrt(len(changes))
    sentence = "On {n} other seeds the best settings change the loss by {mean} ± {error} nats on average."
    return [Text(t(sentence, n=len(changes), mean=f"{mean(changes):+.4f}", error=f"{error:.4f}"))]


def _schedule_worth(best: dict[str, Any], t: Translate) -> list[Block]:
    """The best schedule against the one there was before, by score and, where they were trained with, by loss."""
    blocks: list[Block] = []
    if present := best.get("present"):
        sentence = (
            "The schedule before the search scores {before}."
            if best["changes"]
            else "The schedule before the search scores {before}; none that was tried is better, so it was kept."
        )
        blocks.append(Text(t(sentence, before=number(present["value"]))))
    if tried := best.get("tried"):
        rows = [(_number_of(row, t), number(row["score"]), number(row["loss"])) for row in tried]
        header = (t("trial"), t("score"), t("held-out loss"))
        blocks.append(Table(header, tuple(rows), frozenset({0, 1, 2}), t("Schedules tried in training")))
    return blocks


def _number_of(row: dict[str, Any], t: Translate) -> str:
    return t("before the search") if row["number"] is None else str(row["number"] + 1)


def data(row: dict[str, Any], t: Translate) -> Section:
    base, data = row["base"], row["data"]
    if base is None or data is None:
        return gap(t(STEP_TITLES["prepare"]), t)
    facts = [(t(title), str(base.get(name))) for name, title in MODEL_FACTS.items()]
    facts += [(t("parameters"), count(base.get("n_parameters"))), (t("dataset"), str(data.get("source")))]
    for part, title in DATA_PARTS.items():
        counts = data.get(part) or {}
        facts.append(
            (
                t(title),
                t("{samples} texts, {sequences} sequences, {tokens} tokens", samples=counts.get("n_samples"),
                  sequences=counts.get("n_sequences"), tokens=count(counts.get("n_tokens"))),
            )
        )  # fmt: skip
    if topics := data.get("held_out_topics"):
        facts.append((t("topics kept aside"), ", ".join(topics)))
    return Section(t(STEP_TITLES["prepare"]), (facts_table(facts, t),))


def environment(row: dict[str, Any], t: Translate) -> Section:
    hardware = row["hardware"]
    rows = [
        (check["name"], Mark(check["status"], t(check["status"])), check["found"], check["fix"])
        for check in row["environment"]
    ]
    blocks: list[Block] = [Picture("memory", t("Memory of AEGIS over the whole run"))]
    peaks = [(t(title), size(hardware[name])) for name, title in PEAKS.items() if hardware.get(name)]
    blocks += [facts_table(peaks, t)] if peaks else []
    blocks.append(
        Table((t("what"), t("state"), t("found"), t("what mends it")), tuple(rows))
        if rows
        else Missing(t("The environment was not checked."))
    )
    timings = [(t(STEP_TITLES[step]), f"{timing['seconds']:.1f}") for step, timing in row["timings"].items()]
    blocks.append(Table((t("step"), t("seconds")), tuple(timings), frozenset({1})))
    return Section(t(STEP_TITLES["check"]), tuple(blocks))


def plan(row: dict[str, Any], t: Translate) -> Section:
    values = [(name, plain(value)) for name, value in flat(row["plan"]).items()]
    seeds = ", ".join(f"{name} = {value}" for name, value in row["seeds"].items())
    return Section(
        t("Plan"),
        (
            Text(t("Seeds: {seeds}", seeds=seeds)),
            Table((t("setting"), t("value")), tuple(values), fold_title=t("All settings")),
        ),
    )


def files(row: dict[str, Any], t: Translate) -> Section:
    rows = [(f["step"], f["path"], size(f["bytes"]), f["sha256"]) for f in row["files"]]
    header = (t("step"), t("file"), t("size"), "SHA-256")
    note = t("As recorded when each step finished; aegis verify compares them with the disk.")
    return Section(t("Files"), (Text(note), Table(header, tuple(rows), frozenset({2}), t("All files"))))


def commands(row: dict[str, Any], t: Translate) -> Section:
    text = t("The same run again, in a new folder REPEAT:")
    return Section(t("To repeat"), (Text(text), Code(tuple(row["commands"]))))
