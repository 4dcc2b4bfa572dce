"""The user's own verdicts: beside the measured ones, about one answer, with who, when and why."""

import json
from datetime import datetime

import pytest

from aegis_core.chat.overruling import overrule, overrules, overrules_path
from aegis_core.chat.questions import load_questions
from aegis_core.chat.transcript import append_row
from aegis_core.cli import main
from aegis_core.failures import UserError
from aegis_core.run_directory import RunDirectory

FIRST = "time-irreversible"


@pytest.fixture
def answered(run: RunDirectory) -> RunDirectory:
    run.step_folder("chat").mkdir()
    answer(run, "Because of entropy.")
    return run


def answer(run: RunDirectory, text: str) -> None:
    path = run.step_folder("chat") / "transcript.jsonl"
    path.unlink(missing_ok=True)
    append_row(path, {"question": load_questions("en")[0].question, "answer": text, "language": "en"})


def test_a_verdict_is_kept_with_who_when_and_why(answered: RunDirectory) -> None:
    overrule(answered, FIRST, True, "It names  the\nreason.", "花子")
    found = overrules(answered)[FIRST]
    assert (found.passed, found.reason, found.by) == (True, "It names the reason.", "花子")
    assert abs((datetime.now().astimezone() - datetime.fromisoformat(found.at)).total_seconds()) < 3600
    assert overrule(answered, FIRST, True, "Again.").by, "the system's user name is taken where none is given"


def test_the_last_verdict_counts_and_can_be_taken_back(answered: RunDirectory) -> None:
    overrule(answered, FIRST, True, "Fine.")
    overrule(answered, FIRST, False, "No, it is not.")
    assert overrules(answered)[FIRST].passed is False
    overrule(answered, FIRST, None, "Let the measurement stand.")
    assert overrules(answered) == {}
    assert len(overrules_path(answered).read_text(encoding="utf-8").splitlines()) == 3, "nothing is forgotten"


def test_a_verdict_is_about_one_answer_and_not_about_the_next(answered: RunDirectory) -> None:
    overrule(answered, FIRST, True, "Fine.")
    answer(answered, "Another one.")
    assert overrules(answered) == {}


def test_a_verdict_needs_a_reason_and_an_answer(answered: RunDirectory) -> None:
    with pytest.raises(UserError, match="for a reason"):
        overrule(answered, FIRST, True, " ")
    with pytest.raises(UserError, match="no answer to the question gravity"):
        overrule(answered, "gravity", True, "Fine.")
    assert not overrules_path(answered).exists()


def test_the_run_log_counts_as_unwritten_after_a_verdict(answered: RunDirectory) -> None:
    marker = answered.step_folder("report") / "done.json"
    marker.parent.mkdir()
    marker.write_text(json.dumps({}), encoding="utf-8")
    overrule(answered, FIRST, False, "It says nothing.")
    assert not marker.exists()


def test_the_terminal_overrules_too(answered: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["overrule", str(answered.path), FIRST, "gibberish", "--reason", "It says nothing."]) == 0
    assert overrules(answered)[FIRST].passed is False
    assert main(["overrule", str(answered.path), FIRST, "perhaps", "--reason", "Hm."]) == 2
    assert main(["overrule", str(answered.path), "gravity", "gibberish", "--reason", "Hm."]) == 1
    assert "gravity" in capsys.readouterr().err
