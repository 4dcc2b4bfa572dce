"""Which columns of a dataset hold what: found by their names, or said in the plan."""

import contextlib
import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..failures import UserError
from ..plan import DataPlan
from .samples import Sample, asked, chat, joined, plain

Row = dict[str, Any]

QUESTIONS = (
    "question", "query", "instruction", "prompt", "problem", "user", "human",
    "質問", "質問文", "問い", "問", "問題", "問題文", "設問", "指示", "指示文", "プロンプト",
)  # fmt: skip
ANSWERS = (
    "answer", "output", "response", "completion", "reply", "assistant", "solution",
    "回答", "回答文", "解答", "答え", "答", "返答", "応答", "出力",
)  # fmt: skip
INPUTS = ("input", "context", "入力", "文脈", "コンテキスト")
MESSAGES = ("messages", "conversations", "conversation", "chat", "dialogue", "会話", "対話")
TEXTS = ("text", "content", "body", "document", "本文", "テキスト", "文章", "内容")
SYSTEMS = ("system", "system_prompt", "システム", "システムプロンプト")
TOPICS = ("topic", "トピック", "話題")


@dataclass(frozen=True)
class Columns:
    """The columns that are read, "" for what is not there: `messages`, or `question` (with `input`) and `answer`, or
    `text`. `as_text` joins a chat's turns to plain text."""

    messages: str = ""
    question: str = ""
    input: str = ""
    answer: str = ""
    text: str = ""
    system: str = ""
    topic: str = ""
    as_text: bool = False

    @property
    def used(self) -> dict[str, str]:
        """What each used column holds: {"question": "質問", …}."""
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "as_text"}
        return {name: column for name, column in named.items() if column}

    def sample(self, row: Row, where: str) -> Sample:
        """The row as a sample; UserError names the place of a value that is no text."""
        sample = self._sample(row, where)
        return joined(sample) if self.as_text else sample

    def _sample(self, row: Row, where: str) -> Sample:
        topic = self._text(row, self.topic, where)
        if self.messages:
            turns = _chat(row.get(self.messages), self.messages, where)
            return chat(turns, topic)
        if not self.answer:
            return plain(self._text(row, self.text, where), topic)
        parts = (self._text(row, name, where) for name in (self.question, self.input))
        question = "\n".join(part for part in parts if part)
        answer = self._text(row, self.answer, where)
        return asked(question, answer, topic, self._text(row, self.system, where))

    def _text(self, row: Row, column: str, where: str) -> str:
        value = row.get(column) if column else None
        if isinstance(value, list | dict):
            raise UserError(
                "The column {column} holds lists instead of text ({where}).",
                "Set another column, or make it text.",
                column=column,
                where=where,
            )
        return "" if value is None else str(value)


def find_columns(names: Sequence[str], plan: DataPlan, source: str) -> Columns:
    """The columns to read among `names`; what the plan says wins. UserError lists them if none fits."""
    chosen = _said(names, plan, source) or _found(names, plan)
    wants_chat = plan.format == "chat"
    if chosen is None or (wants_chat and chosen.text):
        raise _unmapped(names, plan, source)
    return Columns(**{**vars(chosen), "as_text": plan.format == "text" and not chosen.text})


def _said(names: Sequence[str], plan: DataPlan, source: str) -> Columns | None:
    """What the plan's own settings say, if any; UserError if they name a column that is not there."""
    said = {
        "data.messages_field": plan.messages_field,
        "data.question_field": plan.question_field,
        "data.answer_field": plan.answer_field,
        "data.text_field": plan.text_field,
    }
    for setting, column in said.items():
        if column and column not in names:
            raise UserError(
                "The dataset {source} has no column {column}, which {setting} names; its columns are {columns}.",
                "Set that to one of them, or leave it empty to let AEGIS find it.",
                source=source,
                column=column,
                setting=setting,
                columns=_listed(names),
            )
    if plan.text_field and plan.format == "text":
        return Columns(text=plan.text_field, topic=_first(names, TOPICS))
    if plan.messages_field:
        return Columns(messages=plan.messages_field, topic=_first(names, TOPICS))
    if plan.question_field or plan.answer_field:
        rest = [name for name in names if name not in (plan.question_field, plan.answer_field)]
        question = plan.question_field or _first(rest, (*QUESTIONS, *INPUTS))
        answer = plan.answer_field or _first(rest, ANSWERS)
        if not question or not answer:
            raise _unmapped(names, plan, source)
        return Columns(question=question, answer=answer, system=_first(rest, SYSTEMS), topic=_first(rest, TOPICS))
    return Columns(text=plan.text_field, topic=_first(names, TOPICS)) if plan.text_field else None


def _found(names: Sequence[str], plan: DataPlan) -> Columns | None:
    """The columns by their usual names; one lone column is taken for text."""
    topic, system = _first(names, TOPICS), _first(names, SYSTEMS)
    text = _first(names, TEXTS) or (names[0] if len(names) == 1 else "")
    if plan.format == "text" and text:
        return Columns(text=text, topic=topic)
    if messages := _first(names, MESSAGES):
        return Columns(messages=messages, topic=topic)
    question, answer, given = _first(names, QUESTIONS), _first(names, ANSWERS), _first(names, INPUTS)
    if question and answer:
        return Columns(question=question, input=given, answer=answer, system=system, topic=topic)
    if given and answer:
        return Columns(question=given, answer=answer, system=system, topic=topic)
    return Columns(text=text, topic=topic) if text else None


def _first(names: Sequence[str], wanted: Sequence[str]) -> str:
    """The column that bears the first of the wanted names, whatever its case and width; "" if none does."""
    known = {_plain(name): name for name in reversed(names)}
    return next((known[name] for name in wanted if name in known), "")


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().lower().replace(" ", "_")


def _unmapped(names: Sequence[str], plan: DataPlan, source: str) -> UserError:
    if plan.format == "chat":
        reason = "No columns of {source} are known as question and answer; its columns are {columns}."
        advice = "Set data.question_field and data.answer_field (or data.messages_field) to the ones that hold them."
    else:
        reason = "No column of {source} is known to hold questions, answers, chats or text; its columns are {columns}."
        advice = "Set data.text_field, or data.question_field and data.answer_field, to the ones that hold them."
    return UserError(reason, advice, source=source, columns=_listed(names))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(str, names)) or "–"


def _chat(value: Any, column: str, where: str) -> list[tuple[str, str]]:
    """(role, content) pairs of a list of messages in OpenAI's or ShareGPT's form; also as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if value is None or value == "":
        return []
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise UserError(
            "The column {column} holds no list of messages ({where}).",
            "Each message needs role and content, or from and value; set another column otherwise.",
            column=column,
            where=where,
        )
    return list(_turns(value, column, where))


def _turns(turns: list[Row], column: str, where: str) -> Iterator[tuple[str, str]]:
    for turn in turns:
        role = turn.get("role") or turn.get("from")
        content = turn["content"] if "content" in turn else turn.get("value")
        if isinstance(content, list):  # parts, of which some may be pictures
            content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
        if not isinstance(role, str) or not (content is None or isinstance(content, str)):
            raise UserError(
                "A message in the column {column} has no role and content ({where}).",
                "Each message needs role and content, or from and value.",
                column=column,
                where=where,
            )
        yield role, content or ""
