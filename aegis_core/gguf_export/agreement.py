"""Does llama.cpp compute with a file what torch computes with the same file's tensors?"""

import json
import math
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..cancel import CancelToken
from ..data.packed import Packed
from .checks import Check
from .llama import LlamaServer
from .pre_tokenizer import composes_letters
from .probes import hard_texts
from .recipe import Recipe
from .sentence_piece import prefixes_first_text

N_POSITIONS = 36  # at least; the tests and the report promise 32
SHORTEST_PROMPT_TOKENS = 4  # where the data has enough places with more to go by
LONGEST_PROMPT_TOKENS = 96
N_CANDIDATES = 40


@dataclass(frozen=True)
class Position:
    """Torch's view of what follows `prompt`: log probabilities (V,) in nats."""

    prompt: list[int]
    log_probabilities: Tensor


@torch.no_grad()
def positions(logits_of: Callable[[Tensor], Tensor], held_out: Packed, cancel: CancelToken) -> list[Position]:
    """At least 36 places in the held-out sequences with torch's distributions; all there are where these have fewer."""
    n, longest = len(held_out), min(held_out.input_ids.shape[1], LONGEST_PROMPT_TOKENS)
    shortest = SHORTEST_PROMPT_TOKENS if n * (longest - SHORTEST_PROMPT_TOKENS + 1) >= N_POSITIONS else 1
    n_lengths_at_most = longest - shortest + 1
    n_sequences = min(n, max(12, math.ceil(N_POSITIONS / n_lengths_at_most)))
    n_lengths = min(n_lengths_at_most, math.ceil(N_POSITIONS / n_sequences))
    chosen = [i * n // n_sequences for i in range(n_sequences)]
    lengths = torch.linspace(shortest, longest, n_lengths, dtype=torch.float64).round().long().tolist()
    found = []
    for sequence in chosen:
        cancel.check()
        ids = held_out.input_ids[sequence, :longest]
        log_probabilities = logits_of(ids[None])[0].float().log_softmax(-1).cpu()
        found += [Position(ids[:length].tolist(), log_probabilities[length - 1]) for length in lengths]
    return found


def check_probabilities(
    server: LlamaServer, places: list[Position], recipe: Recipe, cancel: CancelToken
) -> list[Check]:
    """Next-token probabilities of llama.cpp against torch's; a near-tie within the tolerance counts as the same."""
    tolerance = recipe.type.tolerance
    differences, n_same = [], 0
    for place in places:
        cancel.check()
        candidates = server.next_token_probabilities(place.prompt, N_CANDIDATES)
        best = int(place.log_probabilities.argmax())
        expected = place.log_probabilities[best].item()
        differences.append(abs(dict(candidates).get(best, -math.inf) - expected))
        n_same += expected - place.log_probabilities[candidates[0][0]].item() <= tolerance.largest * 0.2
    mean, n = sum(differences) / len(differences), len(places)
    measured = (
        f"the same at {n_same} of {n} positions"
        if n >= N_POSITIONS
        else f"the same at {n_same} of {n} positions, which are all that the held-out data has"
    )
    return [
        Check(
            "llama.cpp: likeliest next token",
            n_same >= tolerance.same * n,
            measured,
            f"at least {tolerance.same:.0%} (a near-tie counts)",
        ),
        Check(
            "llama.cpp: its log probability",
            max(differences) <= tolerance.largest and mean <= tolerance.mean,
            f"largest difference {max(differences):.4f}, mean {mean:.4f} nats",
            f"largest ≤ {tolerance.largest}, mean ≤ {tolerance.mean} nats",
        ),
    ]


def check_tokens(server: LlamaServer, tokenizer: PreTrainedTokenizerBase) -> Check:
    """llama.cpp's tokens of hard texts against the model's own tokenizer.

    Where a tokenizer does what llama.cpp cannot, the texts are made such that it does not matter: composed beforehand
    if it composes letters and accents (Qwen), behind the start token if only a text at the very beginning gets a blank.
    """
    definition = json.loads(tokenizer.backend_tokenizer.to_str())
    added = tokenizer.added_tokens_decoder.values()
    texts = hard_texts(sorted(token.content for token in added if token.special))
    expected = "all equal to the model's own tokenizer"
    if composes_letters(definition):
        texts = [unicodedata.normalize("NFC", text) for text in texts]
        expected = "all equal to the model's own tokenizer, accents composed (NFC)"
    if prefixes_first_text(definition):
        texts = [f"{tokenizer.bos_token or tokenizer.eos_token}{text}" for text in texts]
        expected = "all equal to the model's own tokenizer, behind the start token"
    wrong = [text for text in texts if server.tokenize(text) != tokenizer.encode(text, add_special_tokens=False)]
    return Check(
        "llama.cpp: tokens of hard texts",
        not wrong,
        f"{len(texts) - len(wrong)} of {len(texts)} equal" + (f", not {wrong[0]!r}" if wrong else ""),
        expected,
    )
