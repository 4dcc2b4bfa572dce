"""What becomes of samples on their way to the trainer."""

import json
from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from aegis_core.data.packed import IGNORED, load_packed, save_packed
from aegis_core.data.packing import pack, split, tokenise
from aegis_core.data.readers import Sample, read_samples
from aegis_core.failures import UserError
from aegis_core.models.loading import load_tokenizer
from aegis_core.plan import DataPlan
from aegis_core.resources import RESOURCES

SAMPLES = [Sample(f"Answer {n}.", f"Question {n}?", topic) for topic in "abcde" for n in range(4)]


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


def test_only_the_answer_is_learned(pico_model: Path) -> None:
    tokenizer = load_tokenizer(pico_model)
    tokens = tokenise(Sample("It is warm.", "Why?"), tokenizer)
    learned = [i for i, label in zip(tokens.ids, tokens.labels, strict=True) if label != IGNORED]
    assert tokenizer.decode(learned) == "It is warm.<|im_end|>\n"
    assert "Why?" in tokenizer.decode(tokens.ids)


def test_plain_text_is_learned_whole(pico_model: Path) -> None:
    tokens = tokenise(Sample("Just text."), load_tokenizer(pico_model))
    assert tokens.ids == tokens.labels


def test_whole_topics_are_held_out() -> None:
    train, held_out = split(SAMPLES, 0.3, seed=0)
    assert not {s.topic for s in train} & {s.topic for s in held_out}
    assert len(train) + len(held_out) == len(SAMPLES)
    assert 4 <= len(held_out) <= 8


def test_the_split_does_not_depend_on_the_order() -> None:
    forward, backward = split(SAMPLES, 0.3, 1), split(SAMPLES[::-1], 0.3, 1)
    assert {s.topic for s in forward[1]} == {s.topic for s in backward[1]}


def test_blank_samples_are_never_trained_on() -> None:
    train, held_out = split([*SAMPLES, Sample("  ", "Why?", "a")], 0.3, 0)
    assert not any(sample.blank for sample in train + held_out)


def test_sequences_have_one_length_and_something_to_learn(pico_model: Path) -> None:
    tokenizer = load_tokenizer(pico_model)
    packed = pack((tokenise(sample, tokenizer) for sample in SAMPLES), 32)
    assert packed.input_ids.shape == packed.labels.shape == (len(packed), 32)
    assert (packed.labels[:, 1:] != IGNORED).any(dim=1).all()


def test_sequences_that_hold_only_a_question_are_left_out(pico_model: Path) -> None:
    long_question = Sample("It is. " * 12, "Is it so? " * 40)
    tokens = tokenise(long_question, load_tokenizer(pico_model))
    packed = pack([tokens], 32)
    assert len(packed) < len(tokens.ids) // 32
    assert (packed.labels[:, 1:] != IGNORED).any(dim=1).all()


def test_a_dataset_whose_answers_all_fall_outside_is_refused(pico_model: Path) -> None:
    with pytest.raises(UserError, match="sequences of 32 tokens holds a part of an answer"):
        pack([tokenise(Sample("It.", "Is it so? " * 40), load_tokenizer(pico_model))], 32)


def test_a_dataset_shorter_than_one_sequence_is_refused(pico_model: Path) -> None:
    with pytest.raises(UserError, match="less than one sequence of 4096"):
        pack([tokenise(SAMPLES[0], load_tokenizer(pico_model))], 4096)


def test_packed_sequences_survive_the_disk(tmp_path: Path, pico_model: Path) -> None:
    packed = pack([tokenise(sample, load_tokenizer(pico_model)) for sample in SAMPLES], 32)
    save_packed(tmp_path / "データ.safetensors", packed)
    again = load_packed(tmp_path / "データ.safetensors")
    assert again.input_ids.equal(packed.input_ids)
    assert again.labels.equal(packed.labels)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.jsonl", b"", "is empty"),
        ("blank.jsonl", b'{"text": "  "}\n', "is empty"),
        ("torn.jsonl", b'{"text": "a"}\n{"te', "Line 2 of .*torn.jsonl is not JSON"),
        ("list.jsonl", b"[1]\n", "Line 1 of .* is not a JSON object"),
        ("column.jsonl", b'{"body": "a"}\n', "no column text .*its columns are body"),
        ("sjis.txt", "時間".encode("cp932"), "is not UTF-8 text"),
        ("kind.docx", b"x", "of no known kind"),
    ],
)
def test_a_bad_dataset_gives_one_clear_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_samples(DataPlan(source=str(path)))


def test_a_missing_file_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no dataset file"):
        read_samples(DataPlan(source=str(tmp_path / "none.jsonl")))


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "bom.jsonl"
    path.write_text('{"question": "なぜ?", "answer": "暖かいから。"}\n', encoding="utf-8-sig")
    assert read_samples(DataPlan(source=str(path))) == [Sample("暖かいから。", "なぜ?")]


def test_parquet_and_text_files_are_read(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"text": ["one", "two"]}).to_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    expected = [Sample("one"), Sample("two")]
    assert read_samples(DataPlan(source=str(tmp_path / "t.parquet"))) == expected
    assert read_samples(DataPlan(source=str(tmp_path / "t.txt"))) == expected
