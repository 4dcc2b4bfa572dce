"""How a model's predictions are read: only where they count, a few hundred positions at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..cancel import CancelToken
from ..data.packed import IGNORED, Packed

if TYPE_CHECKING:  # reading a finished run's figures must not load transformers
    from transformers import PreTrainedModel

CHUNK_TOKENS = 256
_GPU_BATCH_TOKENS = 4096  # one short sequence leaves a GPU idle; a CPU gains nothing from several

LogitsOf = Callable[[Tensor], Tensor]


@runtime_checkable
class Decoder(Protocol):
    """A model in two parts: `hidden(input_ids (B, T))` gives (B, T, H), `head` makes logits of it."""

    @property
    def head(self) -> nn.Linear: ...

    def hidden(self, input_ids: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Plain:
    """A transformers causal LM as decoder and head."""

    model: "PreTrainedModel"

    @property
    def head(self) -> nn.Linear:
        return self.model.get_output_embeddings()

    def hidden(self, input_ids: Tensor) -> Tensor:
        states: Tensor = self.model.get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state
        return states

    def logits(self, input_ids: Tensor) -> Tensor:
        """What the model's own forward gives: (B, T) -> (B, T, V)."""
        logits: Tensor = self.model(input_ids=input_ids.to(self.model.device), use_cache=False).logits
        return logits


@torch.no_grad()
def plain(model: "PreTrainedModel", probe: Tensor) -> Decoder | LogitsOf:
    """The model in two parts if these are all of it, its whole forward otherwise: some cap or scale their logits.

    Tried on the token ids `probe` (T,).
    """
    parts, ids = Plain(model), probe[None, :8].to(model.device)
    whole, apart = parts.logits(ids).float(), parts.head(parts.hidden(ids)).float()
    return parts if torch.allclose(whole, apart, rtol=1e-4, atol=1e-4) else parts.logits


@torch.no_grad()
def predictions(
    model: Decoder | LogitsOf, held_out: Packed, cancel: CancelToken, on_progress: Callable[[int, int], None]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every counted position in order: float32 logits (n, V) for the next token and that token (n,), n ≤ 256.

    `model` is in two parts, or a function input_ids (1, T) -> logits (1, T, V).
    """
    batches = _in_parts(model, held_out) if isinstance(model, Decoder) else _whole(model, held_out)
    n_done = 0
    cancel.check()
    for n_sequences, counted in batches:
        yield from counted
        n_done += n_sequences
        on_progress(n_done, len(held_out))
        cancel.check()


Chunks = Iterator[tuple[Tensor, Tensor]]


def _in_parts(model: Decoder, held_out: Packed) -> Iterator[tuple[int, Chunks]]:
    device = model.head.weight.device
    length = held_out.input_ids.shape[1]
    n_together = max(1, _GPU_BATCH_TOKENS // length) if device.type == "cuda" else 1
    pairs = zip(held_out.input_ids.split(n_together), held_out.labels.split(n_together), strict=True)
    for ids, labels in pairs:
        targets = labels[:, 1:].to(device)
        counted = targets != IGNORED
        hidden = hidden_states(model, ids.to(device))[:, :-1][counted]
        yield len(ids), _chunks(hidden, targets[counted], model.head)


def hidden_states(model: Decoder, input_ids: Tensor) -> Tensor:
    """(B, T) -> (B, T, H); one sequence after the other where the card has no room for all of them at once.

    A training may take nearly all of it, and adapters that compute in float32 outside of it take more than they did.
    """
    try:
        return model.hidden(input_ids)
    except torch.OutOfMemoryError:
        if len(input_ids) == 1:
            raise
    torch.cuda.empty_cache()
    return torch.cat([model.hidden(one) for one in input_ids.split(1)])


def _whole(logits_of: LogitsOf, held_out: Packed) -> Iterator[tuple[int, Chunks]]:
    for ids, labels in zip(held_out.input_ids, held_out.labels, strict=True):
        logits = logits_of(ids[None])[0, :-1]
        targets = labels[1:].to(logits.device)
        counted = targets != IGNORED
        yield 1, _chunks(logits[counted], targets[counted], lambda rows: rows)


def _chunks(rows: Tensor, targets: Tensor, logits_of: Callable[[Tensor], Tensor]) -> Chunks:
    for part, wanted in zip(rows.split(CHUNK_TOKENS), targets.split(CHUNK_TOKENS), strict=True):
        if len(wanted):
            yield logits_of(part).float(), wanted
