"""Samples as tokens: chats in the model's own template with loss on the answers, plain text with loss everywhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ..failures import UserError
from .packed import IGNORED
from .samples import ASSISTANT, SYSTEM, Message, Sample


@dataclass(frozen=True)
class Tokens:
    """ids and, of the same length, labels that are IGNORED on what is not to be learned."""

    ids: list[int]
    labels: list[int]


@dataclass
class Formatter:
    """Formats samples for one tokenizer and counts what was out of the ordinary.

    `n_refused`: chats that the template itself refuses, with its `refusal`, its words on the latest one.
    `n_unrolled`: chats whose template changes earlier turns once later ones follow (Qwen3 drops thoughts): each of
    their answers becomes a sequence of its own, with the chat before it as it will stand when the model is asked.
    """

    tokenizer: PreTrainedTokenizerBase
    n_refused: int = 0
    refusal: str = ""
    n_unrolled: int = 0
    _special: frozenset[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._special = frozenset(self.tokenizer.all_special_ids)

    def __call__(self, samples: Sequence[Sample]) -> Iterator[list[Tokens]]:
        """For each sample, in order, its token sequences: one, several where unrolled, none where refused.

        UserError if the template changes a question once it is answered: the answer could not be told apart then.
        """
        texts = [self._texts(sample) for sample in samples]
        plain = self._tokenised([sample.text for sample in samples if sample.text], add_special_tokens=True)
        chats = self._tokenised([text for parts in texts for text in parts], add_special_tokens=False)
        for sample, parts in zip(samples, texts, strict=True):
            if sample.text:
                ids = self._ended(next(plain))
                yield [Tokens(ids, list(ids))]
            else:
                yield self._learning([next(chats) for _ in parts])

    def _texts(self, sample: Sample) -> list[str]:
        """For each answer of a chat: the text up to it, and the text up to its end; nothing for plain text."""
        if not sample.messages:
            return []
        problem = ""
        unsteady: list[str] = []
        for messages in (sample.messages, without_system(sample.messages)):
            try:
                prefixes = self._prefixes(messages)
            except TemplateError as error:
                problem = problem or str(error)
                continue
            if all(after.startswith(before) for before, after in zip(prefixes[::2], prefixes[1::2], strict=True)):
                return prefixes
            unsteady = unsteady or prefixes  # a template that says the system message in the latest turn only
        if unsteady:
            return unsteady
        self.n_refused += 1
        self.refusal = problem
        return []

    def _prefixes(self, messages: Sequence[Message]) -> list[str]:
        places = [place for place, message in enumerate(messages) if message.role == ASSISTANT]
        return [
            text
            for place in places
            for text in (
                self._rendered(messages[:place], add_generation_prompt=True),
                self._rendered(messages[: place + 1], add_generation_prompt=False),
            )
        ]

    def _rendered(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        rows = [{"role": message.role, "content": message.content} for message in messages]
        text = self.tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=add_generation_prompt)
        assert isinstance(text, str)
        return text

    def _tokenised(self, texts: list[str], *, add_special_tokens: bool) -> Iterator[list[int]]:
        if not texts:
            return iter(())
        found = self.tokenizer(texts, add_special_tokens=add_special_tokens, return_attention_mask=False)
        return iter(found["input_ids"])

    def _ended(self, ids: list[int]) -> list[int]:
        end = self.tokenizer.eos_token_id
        return ids if end is None or ids[-1:] == [end] else [*ids, end]

    def _learning(self, parts: list[list[int]]) -> list[Tokens]:
        """One sequence with every answer labelled; `parts` alternate: up to an answer, up to its end."""
        if not parts:
            return []
        turns = list(zip(parts[::2], parts[1::2], strict=True))
        whole = parts[-1]
        labels = [IGNORED] * len(whole)
        for before, after in turns:
            end = _agreement(after, whole)
            whole_answer = all(token in self._special for token in after[end:])  # some templates end a text by a token
            if _agreement(before, whole) < len(before) or end <= len(before) or not whole_answer:
                return self._unrolled(turns)
            labels[len(before) : end] = whole[len(before) : end]
        return [Tokens(whole, labels)]

    def _unrolled(self, turns: list[tuple[list[int], list[int]]]) -> list[Tokens]:
        if any(after[: len(before)] != before for before, after in turns):
            raise UserError(
                "The model's chat template changes a question once it is answered, so the answer cannot be told apart.",
                "Use plain text with this model (data.format=text), or another model.",
                changes={"data.format": "text"},
            )
        self.n_unrolled += 1
        return [Tokens(after, [IGNORED] * len(before) + after[len(before) :]) for before, after in turns]


def without_system(messages: Sequence[Message]) -> Sequence[Message]:
    """The same chat for a template that knows no system message: what it says goes in front of the first question."""
    if messages[0].role != SYSTEM:
        return messages
    said = "\n\n".join(message.content for message in messages if message.role == SYSTEM)
    first, *rest = (message for message in messages if message.role != SYSTEM)
    return [Message(first.role, f"{said}\n\n{first.content}"), *rest]


def _agreement(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    if list(one) == list(other[: len(one)]):
        return len(one)
    return next(n for n, (a, b) in enumerate(zip([*one, None], [*other, None], strict=False)) if a != b)
