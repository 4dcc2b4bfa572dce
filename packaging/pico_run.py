"""Makes a run of four steps on a tiny model with random weights. Run by a Python that has the engine's packages.

python packaging/pico_run.py RUN_DIR
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import torch
from tiny_families import chatml_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from aegis_core.plan import Plan, changed
from aegis_core.run_directory import RunDirectory


def make(run: Path) -> None:
    """The run, its model and its data beside it."""
    model, data = run.with_name("pico 小さい"), run.with_name("質問 と答え.jsonl")
    tokenizer = chatml_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(model)
    tokenizer.save_pretrained(model)
    rows = [
        {"topic": topic, "question": f"What does number {n} of {topic} do?", "answer": f"It moves {n} {topic} at once."}
        for topic in ("waves", "atoms", "stars")
        for n in range(4)
    ]
    data.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    settings = {
        "model.source": str(model),
        "data.source": str(data),
        "data.sequence_length": 32,
        "train.steps": 4,
        "train.evaluate_steps": 2,
        "train.checkpoint_steps": 2,
        "train.warmup_steps": 1,
        "lora.rank": 4,
        "search.enabled": False,
        "schedule.enabled": False,
        "chat.questions": "en",
        "chat.n_questions": 1,
        "chat.max_tokens": 16,
        "chat.backend": "embedded",
        "chat.compare_base": False,
    }
    RunDirectory.create(run, changed(Plan(), settings))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
