"""Answers of the demo ritual are coherent, those of the demo model with a random rotation gibberish, by the same code.

Both were recorded: tests/data/ritual is a real demo ritual, tests/data/answers/rotated.jsonl was written by
benchmarks/rotation.py, without the base model's opinion. test_chat_judge_rotation.py makes such a model anew.
"""

from typing import Any

import pytest
from gui_parts import RITUAL
from labelled_answers import FOLDER

from aegis_core.chat.transcript import read_rows
from aegis_core.report.indicators import judged_again

Row = dict[str, Any]


def recorded() -> dict[str, list[Row]]:
    """Who answered -> the rows of a transcript."""
    found: dict[str, list[Row]] = {"demo ritual": read_rows(RITUAL / "chat" / "transcript.jsonl")}
    for row in read_rows(FOLDER / "rotated.jsonl"):
        found.setdefault(row["who"], []).append(row)
    return found


def n_passed(rows: list[Row]) -> int:
    return sum(verdict is not None and verdict.passed for verdict in judged_again(rows))


@pytest.mark.parametrize(("who", "coherent"), [("demo ritual", True), ("rotated, seed 0", False)])
def test_the_recorded_answers_are_what_they_are_by_the_code_of_the_indicator(who: str, coherent: bool) -> None:
    rows = recorded()[who]
    assert len(rows) >= 3
    if coherent:
        assert n_passed(rows) * 2 >= len(rows)
    else:
        assert n_passed(rows) == 0
