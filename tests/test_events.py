"""Events as lines: what goes in comes out, and what is no event is refused."""

import json
from pathlib import Path

import pytest

from aegis_core.events import (
    KINDS,
    AnswerFinished,
    Artifact,
    CheckpointSaved,
    CheckRow,
    Event,
    Log,
    Metric,
    Paused,
    PhaseChanged,
    PlanChanged,
    Progress,
    Sample,
    StepCancelled,
    StepFailed,
    StepFinished,
    StepSkipped,
    StepStarted,
    Telemetry,
    Token,
    TrialFinished,
    TrialRunning,
    Verdict,
    decode,
    encode,
    warning,
)
from aegis_core.journal import Journal, replay, to_line

ONE_OF_EACH: tuple[Event, ...] = (
    StepStarted(True, at=1.5, stage="train"),
    StepSkipped("fresh"),
    Progress(3, 10, "shards", "reading"),
    Metric("loss", 3, 2.5),
    Sample("時間", "不可逆\n", 4),
    Telemetry(gpu_name="RTX 3060", vram_used_bytes=12),
    CheckRow("torch", "warning", "2.13", "python start.py"),
    TrialFinished(1, "COMPLETE", 2.0, {"train.learning_rate": 1e-4}, 2.0, "", (1.0, 0.5)),
    TrialRunning(2, {"learning_rate": 1e-4}, (1.0,)),
    CheckpointSaved(7),
    PhaseChanged(7, "critical"),
    Verdict("fusion", "pass", "1e-6", "<= 1e-3"),
    Artifact("train/a", 3, "00"),
    PlanChanged({"a": 1}, {"a": [2]}, "search"),
    Paused(False),
    warning("The {thing} is full.", thing="ディスク"),
    Token("7", "あ"),
    AnswerFinished("7", "stop", 3, 0.5),
    StepFinished(2.0),
    StepFailed("a", "b", "trace", "{x}", "", {"x": "a"}),
    StepCancelled(),
)


def test_every_kind_of_event_is_in_the_round_trip() -> None:
    assert {type(event).__name__ for event in ONE_OF_EACH} == set(KINDS)


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_from_its_line(event: Event) -> None:
    line = encode(event)
    assert "\n" not in line
    assert decode(line) == event


def test_numbers_that_json_does_not_know_travel_as_null() -> None:
    assert decode(encode(Metric("loss", 1, float("nan")))) == Metric("loss", 1, None)
    assert decode(encode(TrialFinished(1, "FAIL", None, {"x": [float("inf")]}))) == TrialFinished(
        1, "FAIL", None, {"x": [None]}
    )


def test_a_file_name_that_is_no_text_survives_the_pipe() -> None:
    name = b"\x83e.gguf".decode("utf-8", errors="surrogateescape")
    assert decode(to_line(Artifact(name, 1)).decode("utf-8")) == Artifact(name, 1)


@pytest.mark.parametrize(
    "line",
    ["", "{", "null", "[]", "7", "{}", '{"event": 3}', '{"event": "Nothing"}', '{"event": "Progress", "done": 1}'],
)
def test_what_is_no_event_is_refused_with_value_error(line: str) -> None:
    with pytest.raises(ValueError):
        decode(line)


def test_fields_of_a_newer_version_are_ignored() -> None:
    row = json.loads(encode(StepFinished(2.0))) | {"mood": "good"}
    assert decode(json.dumps(row)) == StepFinished(2.0)


def test_a_line_torn_by_a_kill_is_cut_off_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Journal(path) as journal:
        journal.write(Log("info", "first"))
    with path.open("ab") as file:
        file.write(b'{"event": "Log", "level": "info", "text": "' + b"x" * 200_000)  # longer than one block
    with Journal(path) as journal:
        journal.write(Log("info", "second"))
    assert [event.text for event in replay(path) if isinstance(event, Log)] == ["first", "second"]
    assert path.read_bytes().count(b"\n") == 2


def test_a_journal_that_is_one_torn_line_starts_anew_and_no_journal_replays_as_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert list(replay(path)) == []
    path.write_bytes(b"\0" * 70_000)
    with Journal(path) as journal:
        journal.write(Paused(True))
    assert list(replay(path)) == [Paused(True)]


def test_replay_leaves_out_lines_that_are_no_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(to_line(Paused(True)) + b"\xff\xfe\n{}\n" + to_line(Paused(False)) + b'{"event": "Pau')
    assert list(replay(path)) == [Paused(True), Paused(False)]
