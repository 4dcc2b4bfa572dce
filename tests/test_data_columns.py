"""Columns: found by name in English and Japanese, told by the plan, or listed in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from aegis_core.data.columns import find_columns
from aegis_core.data.readers import open_source
from aegis_core.data.samples import Sample, asked, chat, plain
from aegis_core.failures import UserError
from aegis_core.plan import DataPlan


@pytest.mark.parametrize(
    ("names", "reads"),
    [
        (["id", "question", "answer"], {"question": "question", "answer": "answer"}),
        (["Question", "ANSWER"], {"question": "Question", "answer": "ANSWER"}),
        (["instruction", "input", "output"], {"question": "instruction", "input": "input", "answer": "output"}),
        (["instruction", "context", "response"], {"question": "instruction", "input": "context", "answer": "response"}),
        (["prompt", "completion"], {"question": "prompt", "answer": "completion"}),
        (["prompt", "response", "system"], {"question": "prompt", "answer": "response", "system": "system"}),
        (["input", "output"], {"question": "input", "answer": "output"}),
        (["質問", "回答", "話題"], {"question": "質問", "answer": "回答", "topic": "話題"}),
        (["指示", "入力", "出力"], {"question": "指示", "input": "入力", "answer": "出力"}),
        (["messages", "prompt", "completion"], {"messages": "messages"}),
        (["id", "conversations"], {"messages": "conversations"}),
        (["text", "label"], {"text": "text"}),
        (["本文"], {"text": "本文"}),
        (["感想"], {"text": "感想"}),
        (["Text", "text"], {"text": "Text"}),
        (["topic", "question", "answer", "text"], {"topic": "topic", "question": "question", "answer": "answer"}),
    ],
)
def test_usual_names_are_found(names: list[str], reads: dict[str, str]) -> None:
    assert find_columns(names, DataPlan(), "x").used == reads


@pytest.mark.parametrize(
    ("settings", "reads"),
    [
        ({"question_field": "b", "answer_field": "a"}, {"question": "b", "answer": "a"}),
        ({"answer_field": "a"}, {"question": "question", "answer": "a"}),
        ({"question_field": "b"}, {"question": "b", "answer": "answer"}),
        ({"messages_field": "b"}, {"messages": "b"}),
        ({"text_field": "b"}, {"text": "b"}),
        ({"text_field": "b", "question_field": "a", "format": "text"}, {"text": "b"}),
        ({"text_field": "b", "question_field": "a"}, {"question": "a", "answer": "answer"}),
    ],
)
def test_what_the_plan_says_wins(settings: dict[str, str], reads: dict[str, str]) -> None:
    assert find_columns(["question", "answer", "a", "b"], DataPlan(**settings), "x").used == reads


@pytest.mark.parametrize(
    ("names", "settings", "sentence", "advice"),
    [
        (["a", "b"], {}, "No column of x.csv is known .*; its columns are a, b", "data.text_field"),
        (["text", "b"], {"format": "chat"}, "No columns of x.csv are known as question", "data.question_field"),
        (["a", "b"], {"text_field": "c"}, "no column c, which data.text_field names; its columns are a, b", "Set that"),
        (["a", "b"], {"question_field": "a"}, "No column of x.csv is known", "data.answer_field"),
    ],
)
def test_unknown_columns_are_listed_with_the_setting_to_set(
    names: list[str], settings: dict[str, str], sentence: str, advice: str
) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        find_columns(names, DataPlan(**settings), "x.csv")
    assert advice in caught.value.advice


def read(tmp_path: Path, *rows: dict[str, Any], **settings: Any) -> list[Sample]:
    path = tmp_path / "会話.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return list(open_source(DataPlan(source=str(path), **settings)).samples())


def test_an_instruction_and_its_input_are_one_question(tmp_path: Path) -> None:
    rows = [{"instruction": "Add.", "input": "1 2", "output": "3"}, {"instruction": "Say.", "input": "", "output": "A"}]
    assert read(tmp_path, *rows) == [asked("Add.\n1 2", "3"), asked("Say.", "A")]


def test_a_column_that_only_later_rows_have_is_found(tmp_path: Path) -> None:
    rows = [{"question": "Why?", "answer": "So."}, {"question": "How?", "answer": "Thus.", "topic": "heat"}]
    assert read(tmp_path, *rows) == [asked("Why?", "So."), asked("How?", "Thus.", "heat")]


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"},
         {"role": "assistant", "content": "So."}],
        [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
         {"role": "model", "content": "So."}],
    ],
)  # fmt: skip
def test_chats_are_read_in_either_form_and_as_json_text(tmp_path: Path, turns: list[dict[str, Any]]) -> None:
    expected = [chat([("system", "Be brief."), ("user", "Why?"), ("assistant", "So.")])]
    assert read(tmp_path, {"conversations": turns}) == expected
    assert read(tmp_path, {"messages": json.dumps(turns)}) == expected


def test_chats_and_questions_can_be_read_as_plain_text(tmp_path: Path) -> None:
    row = {"question": "Why?", "answer": "So."}
    assert read(tmp_path, row, format="text") == [plain("Why?\n\nSo.")]
    assert read(tmp_path, row | {"text": "Once."}, format="text") == [plain("Once.")]


def test_numbers_are_text_and_nothing_is_blank(tmp_path: Path) -> None:
    assert read(tmp_path, {"question": 6, "answer": 42}, {"question": None, "answer": None}) == [
        asked("6", "42"),
        asked("", ""),
    ]


def test_a_plain_text_file_has_no_questions(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("text", encoding="utf-8")
    with pytest.raises(UserError, match="no questions and answers can be told apart"):
        open_source(DataPlan(source=str(path), format="chat"))
