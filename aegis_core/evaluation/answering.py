"""What a gated model would say right now: a short greedy answer, without touching the random state."""

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from ..cancel import CancelToken
from ..training.gated_model import GatedModel


@torch.no_grad()
def greedy_answer(
    gated: GatedModel, tokenizer: PreTrainedTokenizerBase, question: str, n_tokens: int, cancel: CancelToken
) -> str:
    """The likeliest continuation of the question in the model's own template, at most `n_tokens` long."""
    messages = [{"role": "user", "content": question}]
    if tokenizer.chat_template is None:
        text = f"{question}\n\n"
    else:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"].to(gated.model.device)
    decoder, cache, answer = gated.causal.get_decoder(), DynamicCache(config=gated.causal.config), []
    ends = _ends(gated.causal, tokenizer)
    for _ in range(n_tokens):
        cancel.check()
        states = decoder(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state[:, -1:]
        ids = gated.head(gated.gated(states)).argmax(-1)
        if ids.item() in ends:
            break
        answer.append(ids.item())
    return str(tokenizer.decode(answer, skip_special_tokens=True)).strip()


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Every token that ends an answer: some models (Phi-3.5) end a turn otherwise than a text."""
    ends: set[int] = set()
    said = model.generation_config.eos_token_id if model.generation_config else None
    for ids in (tokenizer.eos_token_id, model.config.eos_token_id, said):
        ends.update(ids if isinstance(ids, list) else [] if ids is None else [ids])
    return ends
