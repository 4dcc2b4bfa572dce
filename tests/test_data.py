"""What becomes of samples on their way to the trainer: kept aside, packed, saved."""

import json
from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path

import pytest
import torch

from aegis_core.data.formatting import Formatter, Tokens
from aegis_core.data.packed import IGNORED, Packed, load_packed, save_packed
from aegis_core.data.packing import Packer
from aegis_core.data.samples import Flaw, Sample, asked, chat, joined, plain
from aegis_core.data.splitting import survey
from aegis_core.failures import UserError
from aegis_core.models.loading import load_model, load_tokenizer
from aegis_core.resources import RESOURCES

SAMPLES = [asked(f"Question {n}?", f"Answer {n}.", topic) for topic in "abcde" for n in range(4)]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_bundled_questions_are_many_and_no_two_alike(language: str) -> None:
    text = (RESOURCES / "physics" / f"{language}.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) >= 150
    assert len(Counter(row["topic"] for row in rows)) >= 10
    assert all(row["question"].strip() and len(row["answer"]) >= 60 for row in rows)
    questions = [row["question"] for row in rows]
    close = [(a, b) for i, a in enumerate(questions) for b in questions[:i] if _alike(a, b)]
    assert close == []


def _alike(a: str, b: str) -> bool:
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    return matcher.real_quick_ratio() > 0.8 and matcher.quick_ratio() > 0.8 and matcher.ratio() > 0.8


# ---- samples


@pytest.mark.parametrize(
    ("sample", "flaw"),
    [
        (plain(" \n"), Flaw.BLANK),
        (asked("", "It is warm."), Flaw.BLANK),
        (asked("Why?", "  "), Flaw.NO_ANSWER),
        (chat([]), Flaw.BLANK),
        (chat([("user", ""), ("assistant", " ")]), Flaw.BLANK),
        (chat([("user", "Why?")]), Flaw.NO_ANSWER),
        (chat([("gpt", "Hello!")]), Flaw.NO_ANSWER),
        (plain("a \udc00"), Flaw.HALF_CHARACTER),
        (asked("Why?", "So.", topic="\ud83d"), Flaw.HALF_CHARACTER),
        (chat([("user", "Why?"), ("tool", "42"), ("assistant", "Because.")]), Flaw.FOREIGN_ROLE),
    ],
)
def test_a_sample_with_nothing_to_learn_says_why(sample: Sample, flaw: Flaw) -> None:
    assert sample.flaw is flaw
    assert not sample.messages


def test_a_chat_begins_with_a_question_and_ends_with_an_answer() -> None:
    turns = [("gpt", "Hi!"), ("human", "Why?"), ("gpt", "So."), ("human", "And?"), ("gpt", " ")]
    assert chat([*turns, ("human", "Well?"), ("gpt", "Yes.")]) == asked("Why?", "So.")
    assert chat(turns) == asked("Why?", "So.")


def test_a_chat_as_plain_text_is_its_turns() -> None:
    assert joined(asked("Why?", "So.", "heat")) == plain("Why?\n\nSo.", "heat")


# ---- keeping aside


def test_whole_topics_are_held_out() -> None:
    found = survey(SAMPLES, 0.3, seed=0)
    aside = [sample for sample in SAMPLES if found.keeps_aside(sample)]
    assert Counter(sample.topic for sample in aside) == {topic: 4 for topic in {sample.topic for sample in aside}}
    assert 4 <= len(aside) <= 8


def test_the_split_does_not_depend_on_the_order() -> None:
    forward, backward = survey(SAMPLES, 0.3, 1), survey(SAMPLES[::-1], 0.3, 1)
    assert forward.aside == backward.aside
    assert forward.sha256 != backward.sha256


def test_one_topic_for_all_is_no_topic() -> None:
    samples = [asked(f"Question {n}?", "Yes.", "physics") for n in range(20)]
    found = survey(samples, 0.2, 0)
    assert sum(found.keeps_aside(sample) for sample in samples) == 4


def test_equal_samples_stay_on_one_side() -> None:
    samples = [plain(f"text {n % 5}") for n in range(20)]
    found = survey(samples, 0.2, 0)
    assert sum(found.keeps_aside(sample) for sample in samples) == 4


def test_useless_samples_are_counted_and_on_neither_side() -> None:
    found = survey([*SAMPLES, asked("", "a"), asked("Why?", ""), asked("How?", "")], 0.3, 0)
    assert found.n_samples == 23
    assert found.n_usable == 20
    assert found.n_flawed == {Flaw.BLANK: 1, Flaw.NO_ANSWER: 2}


def test_one_sample_alone_cannot_be_split() -> None:
    with pytest.raises(UserError, match="too few samples"):
        survey(SAMPLES[:1], 0.3, 0)


# ---- packing


def tokens(n: int, n_asked: int = 0, first: int = 10) -> Tokens:
    ids = list(range(first, first + n))
    return Tokens(ids, [IGNORED] * n_asked + ids[n_asked:])


def packed(packer: Packer, *samples: Tokens) -> Packed:
    for sample in samples:
        packer.add(sample)
    return packer.packed()


def test_joined_samples_fill_sequences_to_the_last_token() -> None:
    packer = Packer(8)
    found = packed(packer, tokens(6), tokens(6, first=30), tokens(7, first=50))
    assert found.input_ids.tolist() == [[10, 11, 12, 13, 14, 15, 30, 31], [32, 33, 34, 35, 50, 51, 52, 53]]
    assert packer.n_left_over == 3
    assert packer.n_padding == 0


def test_without_joining_each_sample_begins_a_sequence_and_the_rest_is_not_learned() -> None:
    packer = Packer(8, joins=False, padding=1)
    found = packed(packer, tokens(5, 2), tokens(11, 2, first=30))
    assert found.input_ids.tolist() == [
        [10, 11, 12, 13, 14, 1, 1, 1],
        [30, 31, 32, 33, 34, 35, 36, 37],
        [38, 39, 40, 1, 1, 1, 1, 1],
    ]
    assert found.labels.tolist()[0] == [IGNORED, IGNORED, 12, 13, 14, IGNORED, IGNORED, IGNORED]
    assert found.labels.tolist()[2] == [38, 39, 40, *[IGNORED] * 5]
    assert (packer.n_padding, packer.n_over_long) == (8, 1)


def test_padding_does_not_change_what_the_model_computes_before_it(pico_model: Path) -> None:
    model = load_model(pico_model, torch.float32)
    ids = torch.arange(40, 60)[None]
    padded = torch.cat([ids, torch.full((1, 12), 2)], dim=1)
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, model(padded).logits[:, :20], atol=1e-5)


@pytest.mark.parametrize("joins", [True, False])
def test_over_long_samples_can_be_left_out(joins: bool) -> None:
    packer = Packer(8, joins=joins, splits=False)
    found = packed(packer, tokens(9, first=90), tokens(8))
    assert found.input_ids.tolist() == [list(range(10, 18))]
    assert packer.n_over_long == 1


def test_sequences_that_hold_only_a_question_are_left_out() -> None:
    packer = Packer(8)
    found = packed(packer, tokens(20, 15))
    assert found.input_ids[:, 0].tolist() == [18 - 8 + 8]
    assert packer.n_without_answer == 1
    assert (found.labels[:, 1:] != IGNORED).any(dim=1).all()


def test_an_answer_of_one_first_token_is_none_to_learn_from() -> None:
    """Nothing stands before it that could predict it."""
    packer = Packer(8, joins=False)
    found = packed(packer, Tokens([5, 6], [5, IGNORED]), tokens(4))
    assert len(found) == 1
    assert packer.n_without_answer == 1


@pytest.mark.parametrize(
    ("packer", "sample", "sentence", "changes"),
    [
        (Packer(32), tokens(40, 35), "sequences of 32 tokens holds a part of an answer", {}),
        (Packer(4096), tokens(40), "only 40 tokens, less than one sequence of 4096", {"data.packing": False}),
        (Packer(32, splits=False), tokens(40), "longer than one sequence of 32", {"data.over_long": "split"}),
    ],
)
def test_a_dataset_that_gives_no_sequence_is_refused_with_what_mends_it(
    packer: Packer, sample: Tokens, sentence: str, changes: dict[str, object]
) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        packed(packer, sample)
    assert caught.value.changes == changes


def test_packed_sequences_survive_the_disk(tmp_path: Path, pico_model: Path) -> None:
    packer = Packer(32)
    for sequences in Formatter(load_tokenizer(pico_model))(SAMPLES):
        packer.add(sequences[0])
    found = packer.packed()
    save_packed(tmp_path / "データ.safetensors", found)
    again = load_packed(tmp_path / "データ.safetensors")
    assert again.input_ids.dtype == torch.int64
    assert again.input_ids.equal(found.input_ids.long())
    assert again.labels.equal(found.labels.long())
