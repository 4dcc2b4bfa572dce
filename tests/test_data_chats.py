"""Chats in the templates of every family: what is learned is each answer with its end, and nothing else."""

from collections.abc import Callable

import pytest
from chat_families import FAMILIES, template
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from aegis_core.data.formatting import Formatter, Tokens, without_system
from aegis_core.data.packed import IGNORED
from aegis_core.data.samples import Message, Sample, asked, chat, plain
from aegis_core.failures import UserError

QWEN3 = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.index0 > ns.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FORGETTING = (  # of an earlier answer only what stands before the bar is kept
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{{ m['content'] if loop.last else m['content'].split('|')[0] }}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
COUNTING = "{% for m in messages %}[{{ loop.index }} of {{ messages | length }}] {{ m['content'] }}\n{% endfor %}"
TALK = chat(
    [("system", "Be brief."), ("user", "なぜ?"), ("assistant", "暖かい。"), ("user", "And?"), ("assistant", "So.")]
)
ENDS = {
    "phi-3.5-mini-instruct": "<|end|>\n",
    "llama-3-instruct": "<|eot_id|>",
    "llama-3.1-instruct": "<|eot_id|>",
    "llama-3.2-instruct": "<|eot_id|>",
    "qwen2-instruct": "<|im_end|>\n",
    "qwen2.5-instruct": "<|im_end|>\n",
    "qwen3": "<|im_end|>\n",
    "gemma-2-it": "<end_of_turn>\n",
    "gemma-3-it": "<end_of_turn>\n",
    "mistral-7b-instruct-v0.1": "</s>",
    "mistral-7b-instruct-v0.3": "</s>",
    "mistral-small-3.1-instruct": "</s>",
    "smollm2-instruct": "<|im_end|>\n",
    "smollm3": "<|im_end|>\n",
}
CLOSES = {"phi-3.5-mini-instruct": "<|endoftext|>"}  # what stands behind the last answer only
OPENS = {"mistral-7b-instruct-v0.1": " ", "mistral-7b-instruct-v0.3": " "}  # between the question's end and the answer
MOVES_SYSTEM = {"mistral-7b-instruct-v0.3"}  # says the system message in the latest turn only
UNROLLED = {"qwen3": "<think>\n\n</think>\n\n"}  # and what it puts before each answer


def tokenizer(template: str, markers: list[str], bos: str = "", eos: str = "") -> PreTrainedTokenizerFast:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(r" ?\w+|\s*\n+|\s+| ?[^\w\s]+"), "isolated")  # line ends stay together
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    raw.decoder = decoders.ByteLevel()
    known = [*markers, *(token for token in (bos, eos) if token and token not in markers)]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=known, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    raw.train_from_iterator(["the answer is so, and the question is why\n\n user assistant"] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=bos or None, eos_token=eos or None, chat_template=template,
        additional_special_tokens=known,
    )  # fmt: skip


@pytest.fixture(scope="module")
def family() -> Callable[[str], PreTrainedTokenizerFast]:
    def made(name: str) -> PreTrainedTokenizerFast:
        facts = FAMILIES[name]
        known = [token for token in (facts.bos, facts.eos, *facts.others, *facts.plain) if token]
        return tokenizer(template(name), known, facts.bos, facts.eos)

    return made


def learned(tokenizer: PreTrainedTokenizerFast, tokens: Tokens) -> list[str]:
    """Each run of learned tokens as text."""
    runs: list[list[int]] = [[]]
    for token, label in zip(tokens.ids, tokens.labels, strict=True):
        if label != IGNORED:
            assert label == token
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [tokenizer.decode(run) for run in runs if run]


def formatted(formatter: Formatter, sample: Sample) -> list[Tokens]:
    (found,) = formatter([sample])
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_every_answer_of_a_chat_is_learned_with_its_end_and_nothing_else(
    name: str, family: Callable[[str], PreTrainedTokenizerFast]
) -> None:
    formatter = Formatter(family(name))
    found = formatted(formatter, TALK)
    before = OPENS.get(name, "") + UNROLLED.get(name, "")
    answers = [text for tokens in found for text in learned(formatter.tokenizer, tokens)]
    assert answers == [f"{before}暖かい。{ENDS[name]}", f"{before}So.{ENDS[name]}{CLOSES.get(name, '')}"]
    assert len(found) == (2 if name in UNROLLED else 1)
    whole = formatter.tokenizer.decode(found[-1].ids)
    assert whole.index("Be brief.") < whole.index("なぜ?") < whole.index("And?")
    assert (formatter.n_unrolled, formatter.n_refused) == (len(found) - 1, 0)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in MOVES_SYSTEM])
def test_a_chat_is_learned_as_the_template_renders_it(
    name: str, family: Callable[[str], PreTrainedTokenizerFast]
) -> None:
    formatter = Formatter(family(name))
    rows = [{"role": turn.role, "content": turn.content} for turn in TALK.messages]
    try:
        expected = formatter.tokenizer.apply_chat_template(rows, tokenize=False)
    except TemplateError:  # it takes no system message
        rows = [{"role": turn.role, "content": turn.content} for turn in without_system(TALK.messages)]
        expected = formatter.tokenizer.apply_chat_template(rows, tokenize=False)
    assert formatter.tokenizer.decode(formatted(formatter, TALK)[-1].ids) == expected


def test_a_system_message_that_moves_to_the_latest_question_stands_before_the_first_one(
    family: Callable[[str], PreTrainedTokenizerFast],
) -> None:
    formatter = Formatter(family("mistral-7b-instruct-v0.3"))
    (tokens,) = formatted(formatter, TALK)
    text = formatter.tokenizer.decode(tokens.ids)
    assert text == "<s>[INST] Be brief.\n\nなぜ?[/INST] 暖かい。</s>[INST] And?[/INST] So.</s>"


def test_a_system_message_that_the_template_refuses_stands_before_the_first_question() -> None:
    assert without_system(TALK.messages)[0] == Message("user", "Be brief.\n\nなぜ?")
    assert len(without_system(TALK.messages)) == 4


def test_where_the_template_changes_earlier_turns_each_answer_gets_a_sequence_of_its_own() -> None:
    formatter = Formatter(tokenizer(QWEN3, ["<|im_start|>", "<|im_end|>"], "", "<|im_end|>"))
    first, second = formatted(formatter, TALK)
    assert learned(formatter.tokenizer, first) == ["<think>\n\n</think>\n\n暖かい。<|im_end|>\n"]
    assert learned(formatter.tokenizer, second) == ["<think>\n\n</think>\n\nSo.<|im_end|>\n"]
    assert "assistant\n暖かい。<|im_end|>" in formatter.tokenizer.decode(second.ids)
    assert formatter.n_unrolled == 1
    (alone,) = formatted(formatter, asked("Why?", "So."))
    assert learned(formatter.tokenizer, alone) == ["<think>\n\n</think>\n\nSo.<|im_end|>\n"]
    assert formatter.n_unrolled == 1


def test_an_earlier_answer_that_the_template_cuts_short_is_learned_whole() -> None:
    formatter = Formatter(tokenizer(FORGETTING, ["<|im_start|>", "<|im_end|>"], "", "<|im_end|>"))
    talk = chat([("user", "Why?"), ("assistant", "So.|Or not."), ("user", "And?"), ("assistant", "Thus.")])
    first, second = formatted(formatter, talk)
    assert learned(formatter.tokenizer, first) == ["So.|Or not.<|im_end|>\n"]
    assert learned(formatter.tokenizer, second) == ["Thus.<|im_end|>\n"]


def test_a_template_that_changes_a_question_once_it_is_answered_is_refused() -> None:
    formatter = Formatter(tokenizer(COUNTING, []))
    with pytest.raises(UserError, match="changes a question once it is answered") as caught:
        formatted(formatter, asked("Why?", "So."))
    assert caught.value.changes == {"data.format": "text"}


def test_a_chat_that_the_template_refuses_is_left_out_and_counted(
    family: Callable[[str], PreTrainedTokenizerFast],
) -> None:
    strict = "{% if messages | length > 2 %}{{ raise_exception('one question only') }}{% endif %}"
    chatml = family("qwen2-instruct")
    chatml.chat_template = strict + chatml.chat_template
    formatter = Formatter(chatml)
    found = list(formatter([TALK, asked("Why?", "So."), plain("text")]))
    assert [len(sequences) for sequences in found] == [0, 1, 1]
    assert (formatter.n_refused, formatter.refusal) == (1, "one question only")


def test_plain_text_is_learned_whole_and_ended_once(family: Callable[[str], PreTrainedTokenizerFast]) -> None:
    formatter = Formatter(family("llama-3-instruct"))
    (tokens,) = formatted(formatter, plain("Just text."))
    assert tokens.ids == tokens.labels
    assert formatter.tokenizer.decode(tokens.ids) == "Just text.<|eot_id|>"
    (ended,) = formatted(formatter, plain("Just text.<|eot_id|>"))
    assert ended == tokens
