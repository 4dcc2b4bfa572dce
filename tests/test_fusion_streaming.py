"""Fusion at a size: blocks of rows give peft's bits, memory holds a few, no base is merged that was not hashed."""

import ctypes
import errno
import gc
import os
import sys
import threading
from pathlib import Path

import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from test_families_fusion import ingredients_for
from tiny_families import build

from aegis_core.cancel import CancelToken
from aegis_core.failures import UserError
from aegis_core.fusion import row_blocks
from aegis_core.fusion.merge import merge
from aegis_core.fusion.shard_writer import ShardWriter
from aegis_core.models.weights import StoredTensor
from aegis_core.soul.gate import Soul

WIDE = {"hidden_size": 320, "num_attention_heads": 20, "num_key_value_heads": 4, "head_dim": 16}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "lora", [{"r": 16}, {"r": 7, "use_rslora": True}, {"r": 16, "use_dora": True}], ids=["lora", "rslora", "dora"]
)
def test_merging_rows_block_by_block_gives_pefts_bits(tmp_path, monkeypatch, dtype, lora):
    monkeypatch.setattr(row_blocks, "BLOCK_BYTES", 1)  # 64 rows at a time; the last block takes the rest
    base = build("llama", tmp_path / "base", dtype=dtype, intermediate_size=1000, **WIDE)
    ingredients = ingredients_for(tmp_path / "adapter", base, **lora)
    merge(ingredients, tmp_path / "out", CancelToken())
    found = load_file(tmp_path / "out" / "model.safetensors")
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    expected = PeftModel.from_pretrained(model, ingredients.adapter).merge_and_unload().state_dict()
    for name in found.keys() - {"lm_head.weight", "model.norm.weight"}:
        assert torch.equal(found[name], expected[name]), name


class Rows:
    """A stored tensor's slice, as safetensors gives it."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def get_slice(self, name: str) -> torch.Tensor:
        return self.rows

    def get_tensor(self, name: str) -> torch.Tensor:
        return self.rows


@pytest.mark.parametrize("n_rows", [0, 1, 63, 64, 65, 127, 128, 129, 190, 192, 1000])
@pytest.mark.parametrize("n_bytes", [1, 64 * 8, 200 * 8])
def test_blocks_are_all_rows_in_their_order_and_never_a_few_left_over(monkeypatch, n_rows, n_bytes):
    monkeypatch.setattr(row_blocks, "BLOCK_BYTES", n_bytes)
    rows = torch.arange(n_rows * 2, dtype=torch.float32).view(n_rows, 2)
    found = list(row_blocks.row_blocks(Rows(rows), StoredTensor("x", Path("x"), "F32", tuple(rows.shape))))
    assert torch.equal(torch.cat(found), rows)
    assert min(map(len, found)) >= min(64, n_rows)
    assert max(map(len, found)) < max(2 * 64, n_bytes // 8 + 64)


class PeakGrowth:
    """While entered, the anonymous memory of this process that came on top."""

    def __enter__(self) -> "PeakGrowth":
        self._begun = self._peak = anonymous_bytes()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.n_bytes = self._peak - self._begun

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            self._peak = max(self._peak, anonymous_bytes())


def grown_while_merging(ingredients, folder):
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # or memory that an earlier merge freed would pay for this one
    with PeakGrowth() as growth:
        merge(ingredients, folder, CancelToken())
    return growth.n_bytes


def anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="anonymous memory is told by /proc alone")
@pytest.mark.parametrize(
    ("settings", "n_model_bytes"),
    [
        ({"num_hidden_layers": 24, "hidden_size": 256, "intermediate_size": 2048}, 2 * 24 * (3 * 2048 + 2 * 256) * 256),
        (
            {"num_hidden_layers": 1, "hidden_size": 256, "intermediate_size": 16_384, "vocab_size": 400_000},
            2 * 2 * 400_000 * 256,
        ),
    ],
    ids=["many tensors", "large tensors"],
)
def test_merging_takes_the_memory_of_a_few_blocks_whatever_the_model(tmp_path, settings, n_model_bytes):
    base = build("llama", tmp_path / "base", dtype="bfloat16", num_attention_heads=4, head_dim=64, **settings)
    ingredients = ingredients_for(tmp_path / "adapter", base)
    merge(ingredients, tmp_path / "first", CancelToken())  # what the libraries keep for themselves is there now
    grown = [grown_while_merging(ingredients, tmp_path / f"again {round}") for round in range(3)]
    assert (tmp_path / "first" / "model.safetensors").stat().st_size > n_model_bytes > 75e6
    # What merging itself needs grows every time, a neighbour's garbage does not; 10 to 45 MB were measured.
    assert min(grown) < 60e6, grown


def test_the_head_is_folded_in_the_same_memory_block_after_block(tmp_path, monkeypatch):
    monkeypatch.setattr(row_blocks, "BLOCK_BYTES", 1)
    base = build("llama", tmp_path / "base", vocab_size=1000)
    places, folded = [], Soul.fused_head

    def watched(soul, head, room):
        places.append((room.data_ptr(), folded(soul, head, room).data_ptr()))
        return folded(soul, head, room)

    monkeypatch.setattr(Soul, "fused_head", watched)
    merge(ingredients_for(tmp_path / "adapter", base), tmp_path / "out", CancelToken())
    assert len(places) == 1000 // 64
    assert set(places[:-1]) == {(places[0][0],) * 2}, "the last block, of more rows, may take more room"


def test_a_base_that_changes_while_it_is_merged_is_refused(tmp_path):
    base = build("llama", tmp_path / "base")
    ingredients = ingredients_for(tmp_path / "adapter", base)
    weights = base / "model.safetensors"

    def touched(done: int, total: int) -> None:
        if done == total:
            os.utime(weights, ns=(1, 1))

    with pytest.raises(UserError, match="have changed since training"):
        merge(ingredients, tmp_path / "out", CancelToken(), touched)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == []
    merge(ingredients, tmp_path / "out", CancelToken())


def test_a_disk_that_fills_up_behind_the_merge_leaves_nothing(tmp_path, monkeypatch):
    ingredients = ingredients_for(tmp_path / "adapter", build("llama", tmp_path / "base"))

    def full(self: ShardWriter, data: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ShardWriter, "_store", full)
    with pytest.raises(OSError, match="No space left"):
        merge(ingredients, tmp_path / "out", CancelToken())
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == []
    assert not [
        thread for thread in threading.enumerate() if "safetensors" in thread.name or "base-hash" in thread.name
    ]
