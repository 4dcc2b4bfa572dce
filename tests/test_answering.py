"""What a gated model says during its training: where its answer ends."""

from pathlib import Path

import torch

from aegis_core.cancel import CancelToken
from aegis_core.evaluation.answering import greedy_answer
from aegis_core.models.loading import load_model, load_tokenizer
from aegis_core.soul.gate import Gate
from aegis_core.training.gated_model import GatedModel


def test_an_answer_ends_at_every_token_the_model_names_as_an_end(pico_model: Path) -> None:
    tokenizer = load_tokenizer(pico_model)
    model = load_model(pico_model, torch.float32)
    gated = GatedModel(model, Gate(model.config.hidden_size, calibrate=True, alpha=0.0), shut=True).eval()

    def said() -> str:
        return greedy_answer(gated, tokenizer, "Why?", 6, CancelToken())

    question = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Why?"}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(question, add_special_tokens=False, return_tensors="pt")["input_ids"]
    first = int(gated.logits(ids)[0, -1].argmax())
    assert first != tokenizer.eos_token_id and said()
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, first]
    assert said() == ""
    model.generation_config.eos_token_id = None
    model.config.eos_token_id = first
    assert said() == ""
