"""The run log's section on the physics questions: a line for each, and behind it both answers with all their checks."""

from typing import Any

from .document import (
    Beside,
    Block,
    Cell,
    Fold,
    Mark,
    Missing,
    Mono,
    Said,
    Section,
    Table,
    Text,
    Words,
    facts_table,
    gap,
)
from .phrases import STEP_TITLES, Phrase, Translate
from .wording import NONE, count, number, settings

Row = dict[str, Any]
BACKENDS = {"embedded": "the built-in llama.cpp", "ollama": "Ollama"}
CHECK_TITLES = {
    "length": "long enough",
    "repetition": "no repetition",
    "language": "right language",
    "word order": "order of the words",
    "words": "real words",
    "chat markers": "no chat markers",
    "concepts": "about the question",
    "base model": "likely to the base model",
    "complete": "came to its end",
}
VERDICTS = {"pass": "a meaningful answer", "fail": "not a meaningful answer", "skipped": "not judged"}
SAMPLING = ("temperature", "top_p", "top_k", "num_ctx", "repeat_penalty", "max_tokens", "seed")
ENDINGS = {"stop": "ended by itself", "length": "cut off at the longest answer", "cancelled": "stopped by the user"}


def answers_section(row: Row, t: Translate) -> Section:
    """Every question with both models' answers, their checks with reasons, and what the user says about it."""
    chat = row["chat"]
    answers, base = chat["answers"], {answer["id"]: answer for answer in chat["base_answers"]}
    if not answers:
        return gap(t(STEP_TITLES["chat"]), t)
    blocks: list[Block] = [Text(_answered_by(chat, t)), Text(_counted(answers, base, t))]
    if not base:
        blocks.append(
            Missing(t("The base model was not asked the same questions ({why}).", why=t.told(chat["base_why"] or NONE)))
        )
    blocks.append(_overview(answers, base, chat["overrules"], t))
    blocks.append(_circumstances(row, t))
    blocks += [_question(answer, base.get(answer["id"]), chat["overrules"].get(answer["id"]), t) for answer in answers]
    return Section(t(STEP_TITLES["chat"]), tuple(blocks))


def _circumstances(row: Row, t: Translate) -> Table:
    """How fast it spoke, whether its prompts were the training's, what the server held, how its words were drawn."""
    answers, plan = row["chat"]["answers"], row["plan"]["chat"]
    n_tokens, seconds = (sum(answer.get(name) or 0 for answer in answers) for name in ("n_tokens", "seconds"))
    facts: list[tuple[str, Cell]] = [(t("tokens per second"), number(n_tokens / seconds) if seconds else NONE)]
    checks = [answer["prompt_check"] for answer in answers if answer.get("prompt_check")]
    if checks:
        worst = next((check for check in checks if check["status"] == "fail"), checks[-1])
        told = t.told(str(worst["measured"]))
        status = str(worst["status"])
        facts.append((t("prompts against the tokenizer's, token by token"), Mark(status, f"{t(status)}: {told}")))
    loaded = answers[-1].get("ollama_loaded")
    if isinstance(loaded, dict):
        facts.append((t("held by Ollama"), Words(t.told(str(loaded.get("measured"))))))
    if plan["system"]:
        facts.append((t("system text"), Words(plan["system"])))
    facts.append((t("sampling"), Mono(settings({name: plan[name] for name in SAMPLING}))))
    return facts_table(facts, t)


def _answered_by(chat: Row, t: Translate) -> str:
    backend = t(BACKENDS.get(chat["backend"], "–"))
    said = t("Answered by {model} through {backend}.", model=chat["model"], backend=backend)
    judged = t(
        "A meaningful answer is coherent language about what was asked; whether its physics is right is not judged. "
        "Every verdict was reckoned again for this log."
    )
    return t.together(said, judged)


def _counted(answers: list[Row], base: dict[str, Row], t: Translate) -> str:
    own = t("{n} of {total} answers are meaningful.", n=_n_passed(answers), total=len(answers))
    if not base:
        return own
    other = t("Of the base model's answers {n} of {total} are.", n=_n_passed(list(base.values())), total=len(base))
    return t.together(own, other)


def _overview(answers: list[Row], base: dict[str, Row], overrules: dict[str, Row], t: Translate) -> Table:
    header = [t("question"), t("this model"), *([t("base model")] if base else [])]
    header += [t("your verdict")] if overrules else []
    rows: list[tuple[Cell, ...]] = []
    for answer in answers:
        cells: list[Cell] = [Words(answer["question"]), _verdict(answer, t)]
        if base:
            cells.append(_verdict(base.get(answer["id"]), t))
        if overrules:
            decision = overrules.get(answer["id"])
            cells.append(_users(decision, t) if decision else "–")
        rows.append((*cells, _failures(answer, t) or "–"))
    return Table((*header, t("why")), tuple(rows))


def _question(answer: Row, base: Row | None, decision: Row | None, t: Translate) -> Fold:
    sides = [_said(answer, t("this model"), t)] + ([_said(base, t("base model"), t)] if base else [])
    blocks: list[Block] = [Beside(tuple(sides))]
    if decision:
        blocks.append(
            Text(
                t(
                    "Overruled by {by} at {at}: {verdict}. Reason: {reason}",
                    by=decision["by"],
                    at=decision["at"],
                    verdict=t(VERDICTS["pass" if decision["passed"] else "fail"]),
                    reason=decision["reason"],
                )
            )
        )
    if answer["verdict"]:
        blocks.append(_checks(answer, base, t))
    marks = [_verdict(answer, t)] + ([_users(decision, t)] if decision else [])
    return Fold(answer["question"], tuple(marks), tuple(blocks))


def _checks(answer: Row, base: Row | None, t: Translate) -> Table:
    other = {check["name"]: check for check in (base or {}).get("verdict", {"checks": []})["checks"]}
    rows: list[tuple[Cell, ...]] = []
    for check in answer["verdict"]["checks"]:
        cells: list[Cell] = [t(CHECK_TITLES[check["name"]]), _mark(check, t), _reason(check, t)]
        if base:
            cells += [_mark(other[check["name"]], t), _reason(other[check["name"]], t)]
        rows.append(tuple(cells))
    header = [t("check"), t("this model"), t("reason"), *([t("base model"), t("reason")] if base else [])]
    return Table(tuple(header), tuple(rows))


def _said(answer: Row, who: str, t: Translate) -> Said:
    reason = answer.get("reason")
    remark = t(
        "{model}: {n} tokens in {seconds} s, {ending}",
        model=answer.get("model"),
        n=count(answer.get("n_tokens")),
        seconds=answer.get("seconds"),
        ending=t(ENDINGS[reason]) if reason in ENDINGS else str(reason),
    )
    return Said(who, answer["answer"], _verdict(answer, t), remark)


def _verdict(answer: Row | None, t: Translate) -> Mark:
    verdict = (answer or {}).get("verdict")
    status = "skipped" if verdict is None else "pass" if verdict["passed"] else "fail"
    return Mark(status, t(VERDICTS[status]))


def _users(decision: Row, t: Translate) -> Mark:
    """Drawn as a warning, never in the colours of what was measured."""
    verdict = t(VERDICTS["pass" if decision["passed"] else "fail"])
    return Mark("warning", t("overruled by the user: {verdict}", verdict=verdict))


def _mark(check: Row, t: Translate) -> Mark:
    """A remark that does not decide is no failure of the answer."""
    status = "warning" if check["status"] == "fail" and not check["decides"] else check["status"]
    return Mark(status, t(check["status"]))


def _reason(check: Row, t: Translate) -> str:
    return t(Phrase(check["reason_template"], check["reason_values"]))


def _failures(answer: Row, t: Translate) -> str:
    checks = (answer["verdict"] or {"checks": []})["checks"]
    return t.together(*(_reason(check, t) for check in checks if check["decides"] and check["status"] == "fail"))


def _n_passed(answers: list[Row]) -> int:
    return sum(bool(answer["verdict"] and answer["verdict"]["passed"]) for answer in answers)
