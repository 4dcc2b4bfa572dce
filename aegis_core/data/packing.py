"""Samples as token sequences of one length, loss on answers only, and a part held out by topic."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from ..failures import UserError
from .packed import IGNORED, Packed
from .readers import Sample


@dataclass(frozen=True)
class Tokens:
    """One sample: ids and, of the same length, labels that are IGNORED on what is not to be learned."""

    ids: list[int]
    labels: list[int]


def tokenise(sample: Sample, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """A question and answer in the model's own chat template with loss on the answer; plain text with loss everywhere.

    UserError if the template does not keep the question as a prefix, since then the answer cannot be told apart.
    """
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    if not sample.question:
        ids = tokenizer(sample.answer, add_special_tokens=True)["input_ids"] + end
        return Tokens(ids, list(ids))
    if tokenizer.chat_template is None:
        prompt = tokenizer(f"{sample.question}\n\n", add_special_tokens=True)["input_ids"]
        answer = tokenizer(sample.answer, add_special_tokens=False)["input_ids"] + end
        return Tokens(prompt + answer, [IGNORED] * len(prompt) + answer)
    question = {"role": "user", "content": sample.question.strip()}
    answered = [question, {"role": "assistant", "content": sample.answer.strip()}]
    prompt = _rendered(tokenizer, [question], add_generation_prompt=True)
    whole = _rendered(tokenizer, answered, add_generation_prompt=False)
    if whole[: len(prompt)] != prompt:
        raise UserError(
            "The model's chat template changes a question once it is answered, so the answer cannot be told apart.",
            "Use plain text with this model, or another model.",
        )
    return Tokens(whole, [IGNORED] * len(prompt) + whole[len(prompt) :])


def pack(samples: Iterable[Tokens], length: int) -> Packed:
    """All samples end to end, cut into sequences of `length`; what is left over at the end is dropped.

    Sequences without any counted token are left out: they would give a loss of NaN. UserError if none remains.
    """
    ids: list[int] = []
    labels: list[int] = []
    for sample in samples:
        ids += sample.ids
        labels += sample.labels
    n_whole = max(len(ids) // length, 1)
    rows = [(ids[i * length : (i + 1) * length], labels[i * length : (i + 1) * length]) for i in range(n_whole)]
    kept = [row for row in rows if len(row[0]) == length and any(label != IGNORED for label in row[1][1:])]
    if not kept and len(ids) >= length:
        raise UserError(
            "None of the dataset's sequences of {length} tokens holds a part of an answer to learn from.",
            "Choose a longer sequence length, or shorten the questions.",
            length=length,
        )
    if not kept:
        raise UserError(
            "The dataset gives only {n} tokens, less than one sequence of {length}.",
            "Add samples or choose a shorter sequence length.",
            n=len(ids),
            length=length,
        )
    return Packed(torch.tensor([row[0] for row in kept]), torch.tensor([row[1] for row in kept]))


def split(samples: Sequence[Sample], fraction: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """(train, held out): whole topics go aside until `fraction` is reached; without topics single samples do.

    Blank samples are in neither. Decided by hashes of seed and topic, so that it does not depend on the order.
    """
    filled = [sample for sample in samples if not sample.blank]
    keys = [sample.topic or f"{sample.question}\n{sample.answer}" for sample in filled]
    wanted = fraction * len(filled)
    aside: set[str] = set()
    n_aside = 0
    counts = Counter(keys)
    for key in sorted(counts, key=lambda key: hashlib.sha256(f"{seed}\n{key}".encode()).digest()):
        if n_aside >= wanted or len(aside) + 1 == len(counts):
            break
        aside.add(key)
        n_aside += counts[key]
    held_out = [sample for sample, key in zip(filled, keys, strict=True) if key in aside]
    train = [sample for sample, key in zip(filled, keys, strict=True) if key not in aside]
    if not held_out or not train:
        raise UserError(
            "The dataset has too few samples to keep some aside for measuring.", "Add samples; two are the least."
        )
    return train, held_out


def _rendered(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, add_generation_prompt: bool
) -> list[int]:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
