"""Parts that the tests share: a tiny real model with a real tokenizer, and a run in an awkward folder."""

import json
import os
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

from aegis_core import plan as plans
from aegis_core.run_directory import RunDirectory

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def pico_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a two-layer Llama (H = 64, random weights, untied head) and a byte-level BPE tokenizer."""
    return build_pico(tmp_path_factory.mktemp("pico 小さい"), tied=False)


@pytest.fixture(scope="session")
def tied_pico_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_pico(tmp_path_factory.mktemp("pico tied"), tied=True)


def build_pico(folder: Path, *, tied: bool) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def pico_data(tmp_path: Path) -> Path:
    """Twelve questions and answers on three topics."""
    path = tmp_path / "質問 と答え.jsonl"
    rows = [
        {"topic": topic, "question": f"What does number {n} of {topic} do?", "answer": f"It moves {n} {topic} at once."}
        for topic in ("waves", "atoms", "stars")
        for n in range(4)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def pico_plan(pico_model: Path, pico_data: Path) -> plans.Plan:
    """A ritual of four steps on the tiny model."""
    return plans.changed(
        plans.Plan(),
        {
            "model.source": str(pico_model),
            "data.source": str(pico_data),
            "data.sequence_length": 32,
            "train.steps": 4,
            "train.evaluate_steps": 2,
            "train.checkpoint_steps": 2,
            "train.warmup_steps": 1,
            "lora.rank": 4,
            "chat.questions": "en",
            "chat.backend": "embedded",
        },
    )


@pytest.fixture
def run(tmp_path: Path, pico_plan: plans.Plan) -> RunDirectory:
    """A fresh run in a folder with a space and Japanese in its name."""
    return RunDirectory.create(tmp_path / "ri tual 日本語", pico_plan)


def _tokenizer(folder: Path):  # type: ignore[no-untyped-def]
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    raw.train_from_iterator(["time moves, waves and atoms and stars move at once 時間"] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        chat_template=CHATML,
    )
