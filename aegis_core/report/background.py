"""The sections of the run log that say under which circumstances its results came about."""

import math
from functools import cache
from statistics import mean, stdev
from typing import Any

from pydantic import BaseModel

from ..command_line import flat
from ..engine.remedy import remedy
from ..plan import Plan
from .document import Block, Cell, Code, Mark, Missing, Mono, Picture, Section, Table, Text, Words, facts_table, gap
from .phrases import STEP_TITLES, Translate
from .repeat import flat_tree
from .results import NOW, on_disk
from .wording import NONE, count, date, duration, number, plain, settings, size

MODEL_FACTS = {
    "source": "base model",
    "revision": "revision",
    "architecture": "architecture",
    "license": "licence",
    "sha256": "SHA-256 of its weights",
}
DATA_FACTS = {"commit": "revision of the dataset", "sha256": "SHA-256 of the data"}
STATES = {
    "done": "done",
    "stale": "no longer fits",
    "ready": "not run",
    "waiting": "not run",
    "disabled": "switched off",
}
ENDS = {"finished": "finished", "failed": "failed", "stopped": "stopped by the user", "broken_off": "broken off"}
NAMED = ("AEGIS", "Python", "torch", "transformers", "peft", "gguf", "libgguf", "xllamacpp", "Ollama")
DATA_PARTS = {"train": "trained on", "held_out": "kept aside"}
PEAKS = {"peak_ram_own_bytes": "most RAM used by AEGIS", "peak_vram_own_bytes": "most VRAM used by AEGIS"}


def studies(row: dict[str, Any], t: Translate) -> Section:
    blocks: list[Block] = []
    for step, study in row["studies"].items():
        title = t(STEP_TITLES[step])
        if study is None:
            lacking = t("This step has no finished result: {title}.", title=title)
            wanted = row["plan"][step]["enabled"]
            blocks.append(Missing(lacking) if wanted else Text(t("{title}: not run.", title=title)))
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
            planned = flat_tree(row["plan"])
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
    facts: list[tuple[str, Cell]] = [(t(title), Mono(str(base.get(name)))) for name, title in MODEL_FACTS.items()]
    facts += [(t("parameters"), count(base.get("n_parameters"))), (t("dataset"), Mono(str(data.get("source"))))]
    facts += [(t(title), Mono(str(data[name]))) for name, title in DATA_FACTS.items() if data.get(name)]
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
        facts.append((t("topics kept aside"), Words(", ".join(topics))))
    return Section(t(STEP_TITLES["prepare"]), (facts_table(facts, t),))


def environment(row: dict[str, Any], t: Translate) -> Section:
    """What the check found on the machine, and what memory the run took."""
    hardware = row["hardware"]
    rows = [
        (t.told(check["name"]), Mark(check["status"], t(check["status"])), *_found(check, t))
        for check in row["environment"]
    ]
    blocks: list[Block] = [
        Table((t("what"), t("state"), t("found"), t("what mends it")), tuple(rows))
        if rows
        else Missing(t("The environment was not checked."))
    ]
    blocks.append(Picture("memory", t("Memory of AEGIS over the whole run")))
    peaks: list[tuple[str, Cell]] = [(t(title), size(hardware[n])) for n, title in PEAKS.items() if hardware.get(n)]
    blocks += [facts_table(peaks, t)] if peaks else []
    return Section(t(STEP_TITLES["check"]), tuple(blocks))


def _found(check: dict[str, str], t: Translate) -> tuple[Cell, Cell]:
    return Words(t.told(check["found"])), Words(t.told(check["fix"]))


def course(row: dict[str, Any], t: Translate) -> Section:
    """When each step ran, how often it was tried, and what was warned of on the way."""
    steps = [
        (
            t(STEP_TITLES[step]),
            _ended(row["timings"].get(step), t),
            duration((row["timings"].get(step) or {}).get("seconds"), t),
            str(sum(attempt["step"] == step for attempt in row["attempts"])),
            str((row["timings"].get(step) or {}).get("version", NONE)),
            Mark(str(state), t(STATES[str(state)])),
        )
        for step, state in row["steps"].items()
    ]
    header = (t("step of the ritual"), t("finished"), t("time"), t("starts"), "AEGIS", t("state"))
    blocks: list[Block] = [Table(header, tuple(steps), frozenset({2, 3}))]
    cut = [attempt for attempt in row["attempts"] if attempt["end"] != "finished"]
    if cut:
        rows = [
            (date(a["started_at"], t), t(STEP_TITLES.get(a["step"], a["step"])), t(ENDS[a["end"]]), _why(a, t))
            for a in cut
        ]
        heading = (t("started"), t("step of the ritual"), t("how it ended"), t("reason"))
        blocks.append(Table(heading, tuple(rows), caption=t("Starts that did not come to their end")))
    if row["warnings"]:
        told = [
            (date(w["first_at"], t), t(STEP_TITLES.get(w["step"], w["step"])), Words(_warned(w, t)), str(w["n"]))
            for w in row["warnings"]
        ]
        heading = (t("first at"), t("step of the ritual"), t("warning"), t("times"))
        blocks.append(Table(heading, tuple(told), frozenset({3}), caption=t("Warnings")))
    elif row["attempts"]:
        blocks.append(Text(t("No warning was given.")))
    return Section(t("Course of the run"), tuple(blocks))


def _ended(timing: dict[str, Any] | None, t: Translate) -> str:
    return date(timing["finished_at"], t) if timing else NONE


def _why(attempt: dict[str, Any], t: Translate) -> Words:
    return Words(t.told(attempt["reason"]) if attempt["reason"] else NONE)


def _warned(warning: dict[str, Any], t: Translate) -> str:
    """By its own template where the journal has one: what was filled in may be anything."""
    template, values = warning["template"], warning["values"]
    said = t.told(template) if template else ""
    return said.format(**values) if said and said != template else t.told(warning["text"])


def plan(row: dict[str, Any], t: Translate) -> Section:
    """The settings somebody or a search chose, what fixes the dice, the versions; every setting behind a fold."""
    blocks: list[Block] = []
    if row["differences"]:
        rows = [
            (
                Mono(difference["name"]),
                Words(plain(difference["value"]) or NONE),
                Words(plain(difference["default"]) or NONE),
                t(STEP_TITLES[difference["source"]]) if difference["source"] in STEP_TITLES else t("chosen"),
                _meaning(difference["name"], t),
            )
            for difference in row["differences"]
        ]
        header = (t("setting"), t("value"), t("default"), t("set by"), t("meaning"))
        blocks.append(Table(header, tuple(rows), caption=t("Settings that differ from those a new run starts with")))
    else:
        blocks.append(Text(t("Every setting is the one a new run starts with.")))
    seeds = [(Mono(name), str(value), _meaning(name, t)) for name, value in row["seeds"].items()]
    blocks.append(Table((t("seed"), t("value"), t("meaning")), tuple(seeds), caption=t("Seeds")))
    versions = [(name, Words(t.told(str(found)))) for name, found in row["versions"].items() if found]
    blocks.append(
        Table((t("what"), t("version")), tuple(versions), caption=t("Versions, as the environment check found them"))
        if len(versions) > 1
        else Missing(t("The versions are not known: the environment was not checked."))
    )
    values = [
        (Mono(name), Words(plain(value) or NONE), _meaning(name, t)) for name, value in flat_tree(row["plan"]).items()
    ]
    blocks.append(Table((t("setting"), t("value"), t("meaning")), tuple(values), fold_title=t("All settings")))
    return Section(t("Plan, seeds and versions"), tuple(blocks))


@cache
def _meanings() -> dict[str, str]:
    """Help of every setting by its full name."""
    found = {}
    for name in flat(Plan()):
        section: type[BaseModel] = Plan
        *sections, last = name.split(".")
        for part in sections:
            section = type(section.model_fields[part].default)
        found[name] = section.model_fields[last].description or ""
    return found


def _meaning(name: str, t: Translate) -> str:
    return t.told(_meanings().get(name, ""))


def files(row: dict[str, Any], t: Translate) -> Section:
    """Every output of every step, compared with the disk while this log was written."""
    found = row["files"]
    if not found:
        return Section(t("Files"), (Missing(t("No step has left a file.")),))
    states = [file["now"] for file in found]
    said = t("{n} files of {bytes} in all; each was read again and compared with the SHA-256 its step recorded: "
             "{n_same} are unchanged.", n=len(found), bytes=size(sum(f["bytes"] for f in found)),
             n_same=states.count("same"))  # fmt: skip
    blocks: list[Block] = [Text(said)]
    wrong = [file for file in found if file["now"] != "same"]
    blocks += [Missing(t("{file}: {state}", file=file["path"], state=t(NOW[file["now"]][1]))) for file in wrong]
    rows = [(Mono(f["path"]), size(f["bytes"]), on_disk(f["now"], t), Mono(f["sha256"])) for f in found]
    header = (t("file"), t("size"), t("on disk now"), "SHA-256")
    blocks.append(Table(header, tuple(rows), frozenset({1}), t("All files")))
    return Section(t("Files"), tuple(blocks))


def commands(row: dict[str, Any], t: Translate) -> Section:
    """What to type, with what it was done, and what tells whether it came out the same."""
    text = t("The same run again, in a new folder REPEAT:")
    versions = ", ".join(f"{name} {found}" for name, found in row["versions"].items() if found and name in NAMED)
    blocks: list[Block] = [Text(text), Code(tuple(row["commands"]), "sh")]
    if versions:
        made = "This one was made with {versions}; {command} installs the versions that AEGIS pins."
        blocks.append(Text(t(made, versions=versions, command=remedy().command)))
    blocks.append(
        Text(
            t(
                "Whether it came out the same is for the SHA-256 of the weights and GGUF files to say: compare both "
                "lists of files. Another processor, GPU or version may round differently."
            )
        )
    )
    if any(row["plan"].get(section, {}).get("directory") for section in ("fuse", "export")):
        blocks.append(
            Text(
                t(
                    "Folders outside the run are left out of the commands: they belong to this run. A GGUF file "
                    "written outside carries its run's name, so its SHA-256 differs."
                )
            )
        )
    return Section(t("To repeat"), tuple(blocks))
