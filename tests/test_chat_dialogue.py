"""A conversation with two models: what each is told, what is kept, what a kill takes away."""

import json
from collections.abc import Sequence

import pytest

from aegis_core import plan as plans
from aegis_core.chat import history
from aegis_core.chat.dialogue import LOST, Dialogue, Exchange, Reply
from aegis_core.events import AnswerFinished
from aegis_core.run_directory import RunDirectory


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path / "ri tual 日本語", plans.demo_plan())


def ask(dialogue: Dialogue, question: str, models: Sequence[str] = ("aegis",), **said: str) -> Exchange:
    """Every model answers with its name and the question unless `said` has other words for it."""
    exchange = dialogue.ask(question, models, {"temperature": 0.5, "seed": 3})
    for reply in exchange.replies:
        reply.text = said.get(reply.model, f"{reply.model}: {question}")
        reply.end(AnswerFinished("1", "stop", 5, 2.0, n_prompt_tokens=9, first_token_seconds=0.5))
        dialogue.finish(reply)
    return exchange


def contents(dialogue: Dialogue, exchange: Exchange, model: str) -> list[str]:
    return [message["content"] for message in dialogue.messages(exchange, model)]


def test_each_model_hears_its_own_answers_and_anothers_where_it_gave_none(run):
    talk = Dialogue(run)
    ask(talk, "1", ("aegis", "base"))
    ask(talk, "2", ("aegis",))
    last = ask(talk, "3", ("aegis", "base"))
    assert contents(talk, last, "aegis") == ["1", "aegis: 1", "2", "aegis: 2", "3"]
    assert contents(talk, last, "base") == ["1", "base: 1", "2", "aegis: 2", "3"]


def test_questions_that_nobody_answered_are_not_told_again(run):
    talk = Dialogue(run)
    ask(talk, "1", aegis=" \n")
    assert contents(talk, ask(talk, "2"), "aegis") == ["2"]


def test_a_conversation_comes_back_with_its_answers_in_the_order_they_were_asked_for(run):
    talk = Dialogue(run)
    exchange = talk.ask("光とは？", ("aegis", "base"), {"seed": 3})
    for reply in reversed(exchange.replies):  # the one that waited ends first when both are stopped
        reply.text, reply.reason = reply.model, "cancelled"
        talk.finish(reply)
    again = Dialogue(run, talk.id)
    assert [(r.model, r.text, r.reason, r.sampling) for r in again.exchanges[0].replies] == [
        ("aegis", "aegis", "cancelled", {"seed": 3}),
        ("base", "base", "cancelled", {"seed": 3}),
    ]


def test_an_answer_that_a_kill_took_away_says_so(run):
    talk = Dialogue(run)
    exchange = talk.ask("1", ("aegis", "base"), {})
    exchange.replies[0].text = exchange.replies[0].reason = "stop"
    talk.finish(exchange.replies[0])
    again = Dialogue(run, talk.id)
    assert [reply.reason for reply in again.exchanges[0].replies] == ["stop", LOST]


def test_a_conversation_of_before_two_models_could_be_asked_is_read(run):
    history.add(run, "a", "user", "1", model="base")
    history.add(run, "a", "assistant", "2", model="base", reason="stop")
    history.add(run, "a", "user", "3", model="base")
    found = Dialogue(run, "a").exchanges
    assert [[(r.model, r.text, r.reason) for r in exchange.replies] for exchange in found] == [
        [("base", "2", "stop")],
        [("base", "", LOST)],
    ]


def test_going_back_forgets_what_followed_and_the_file_keeps_it(run):
    talk = Dialogue(run)
    ask(talk, "1", ("aegis", "base"))
    ask(talk, "2", ("aegis", "base"))
    ask(talk, "3")
    talk.drop(1)
    ask(talk, "4")
    assert [exchange.question for exchange in Dialogue(run, talk.id).exchanges] == ["1", "4"]
    path = run.path / history.FOLDER / f"{talk.id}.jsonl"
    kept = [json.loads(line).get("content") for line in path.read_text(encoding="utf-8").splitlines()]
    assert kept == ["1", "aegis: 1", "base: 1", "2", "aegis: 2", "base: 2", "3", "aegis: 3", None, "4", "aegis: 4"]


def test_the_system_text_is_told_first_from_where_it_was_set_and_can_be_left_to_the_model_again(run):
    talk = Dialogue(run)
    assert talk.messages(ask(talk, "1"), "aegis")[0]["role"] == "user"
    talk.set_system("Answer in rhyme.")
    again = Dialogue(run, talk.id)
    assert again.system == "Answer in rhyme."
    assert again.messages(again.exchanges[0], "aegis")[0] == {"role": "system", "content": "Answer in rhyme."}
    again.set_system(None)
    assert Dialogue(run, talk.id).system is None


def test_setting_the_same_system_text_writes_nothing(run):
    talk = Dialogue(run)
    talk.set_system(None)
    assert not (run.path / history.FOLDER).exists()


def test_a_disk_that_is_full_ends_nothing_and_no_row_is_counted_that_is_not_there(run, monkeypatch):
    talk = Dialogue(run)
    ask(talk, "1")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(history, "append_row", full)
        lost = ask(talk, "2")
    assert talk.unkept is not None and lost.n_rows == 0
    ask(talk, "3")
    assert talk.unkept is None
    talk.drop(2)
    assert [exchange.question for exchange in Dialogue(run, talk.id).exchanges] == ["1"]


@pytest.mark.parametrize(
    ("n_tokens", "seconds", "first", "expected"),
    [(11, 2.0, 1.0, 10.0), (10, 2.0, None, 5.0), (1, 2.0, 1.0, None), (9, 1.0, 1.0, None), (0, 0.0, None, None)],
)
def test_speed_is_that_of_writing_once_it_had_begun(n_tokens, seconds, first, expected):
    reply = Reply("aegis", n_tokens=n_tokens, seconds=seconds, first_token_seconds=first)
    assert reply.tokens_per_second == expected


def test_what_an_answer_cost_is_kept_and_read_back(run):
    talk = Dialogue(run)
    ask(talk, "1")
    (reply,) = Dialogue(run, talk.id).exchanges[0].replies
    assert (reply.n_tokens, reply.n_prompt_tokens, reply.seconds, reply.first_token_seconds) == (5, 9, 2.0, 0.5)
