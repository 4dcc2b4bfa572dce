"""How surprised the base model is by an answer: its loss in nats per token, given the question in its own template.

What a model says at random is a string of words that no other model would expect; a base model of any quality finds it
as unlikely as shuffled words, or far more so. So that one limit fits every base and language, an answer's loss is put
beside two losses of the same base: on the bundled physics answers in that language, and on those with their words
(Japanese: characters) shuffled. The base runs in torch, in the numbers and at the place in which the quality chain
measures it, with no other model in memory.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor

from ..cancel import CancelToken
from ..evaluation.chain import free_memory
from ..evaluation.precision import dtype_of_run, place_of
from ..evaluation.reading import CHUNK_TOKENS
from ..failures import UserError
from ..models.identity import BaseModel, read_base
from ..models.loading import load_model
from ..resources import RESOURCES
from ..run_directory import RunDirectory
from .prompt import ChatPrompts
from .verdict import Surprise

N_REFERENCES = 8
MAX_TOKENS = 256  # of one answer: more make the mean no surer and take longer
MOST_OF_THE_MEMORY = 0.8


@dataclass(frozen=True)
class Loss:
    """Mean loss in nats per token of a text, and of how many tokens; n_tokens is 0 for an empty one."""

    nats_per_token: float
    n_tokens: int


def base_reader(run: RunDirectory, cancel: CancelToken) -> "BaseReader":
    """The base of a run, loaded. UserError if it is not there any more, or if there is no memory for it."""
    base = read_base(run)
    dtype = dtype_of_run(run, base)
    place = place_of(base, dtype)
    _check_memory(base, dtype, place)
    prompts = ChatPrompts(base.path)
    return BaseReader(load_model(base.path, dtype, own_code="model" in base.own_code, place=place), prompts, cancel)


class BaseReader:
    """A model in memory that tells its loss on answers; `close` frees the memory. Each loss is of one forward pass."""

    def __init__(self, model: Any, prompts: ChatPrompts, cancel: CancelToken) -> None:
        self._model, self._prompts, self._cancel = model, prompts, cancel
        self._references: dict[str, tuple[Loss, Loss]] = {}

    @torch.no_grad()
    def loss(self, question: str, answer: str) -> Loss:
        """Of the answer's first 256 tokens, after the question in the chat template."""
        self._cancel.check()
        prompt = self._prompts.token_ids([{"role": "user", "content": question}])
        answered = self._prompts.encode(answer)[:MAX_TOKENS]
        if not answered:
            return Loss(0.0, 0)
        ids = torch.tensor([prompt + answered], device=self._model.device)
        logits = self._model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        return Loss(_mean_loss(logits, ids[0, len(prompt) :]), len(answered))

    def surprise(self, question: str, answer: str, language: str) -> Surprise | None:
        """The answer's loss beside those of prose and of shuffled words in that language; None of an empty answer."""
        found = self.loss(question, answer)
        if not found.n_tokens:
            return None
        prose, shuffled = self.references(language)
        return Surprise(found.nats_per_token, found.n_tokens, prose.nats_per_token, shuffled.nats_per_token)

    def references(
        self, language: str, on_progress: Callable[[int, int], None] = lambda d, t: None
    ) -> tuple[Loss, Loss]:
        """Losses on good answers and on the same with their words shuffled; measured once."""
        if language not in self._references:
            losses: list[tuple[Loss, Loss]] = []
            for question, answer, shuffled in reference_answers(language):
                losses.append((self.loss(question, answer), self.loss(question, shuffled)))
                on_progress(len(losses), N_REFERENCES)
            self._references[language] = (_mean([p for p, _ in losses]), _mean([s for _, s in losses]))
        return self._references[language]

    def close(self) -> None:
        self._model = None
        free_memory()


def reference_answers(language: str) -> list[tuple[str, str, str]]:
    """Question, good answer and the same answer shuffled: eight of the bundled ones, evenly spread, always the same."""
    lines = (RESOURCES / "physics" / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:: len(lines) // N_REFERENCES][:N_REFERENCES]]
    apart = "" if language == "ja" else " "
    found = []
    for number, row in enumerate(rows):
        pieces = list(row["answer"]) if language == "ja" else row["answer"].split()
        shuffled = apart.join(random.Random(number).sample(pieces, len(pieces)))
        found.append((row["question"], row["answer"], shuffled))
    return found


def _mean_loss(logits: Tensor, targets: Tensor) -> float:
    parts = zip(logits.split(CHUNK_TOKENS), targets.split(CHUNK_TOKENS), strict=True)
    losses = [torch.nn.functional.cross_entropy(rows.float(), wanted, reduction="none") for rows, wanted in parts]
    return torch.cat(losses).double().mean().item()


def _mean(losses: list[Loss]) -> Loss:
    n = sum(loss.n_tokens for loss in losses)
    return Loss(sum(loss.nats_per_token * loss.n_tokens for loss in losses) / n, n)


def _check_memory(base: BaseModel, dtype: torch.dtype, place: torch.device) -> None:
    needed, free = dtype.itemsize * base.n_parameters, psutil.virtual_memory().available
    if place.type == "cpu" and needed > MOST_OF_THE_MEMORY * free:
        raise UserError(
            "There is no memory for the base model now ({needed} GB in {dtype}, {free} GB free).",
            "Close other programs and run this step again; the answers are kept.",
            needed=f"{needed / 1e9:.1f}",
            dtype=str(dtype).removeprefix("torch."),
            free=f"{free / 1e9:.1f}",
        )
