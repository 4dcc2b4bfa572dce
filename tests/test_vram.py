"""What the allocator says of the card's memory, where there is one."""

import pytest
import torch

from aegis_core.training.vram import vram_in_use


def test_without_cuda_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert vram_in_use() == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_each_part_contains_the_one_before_it() -> None:
    torch.cuda.reset_peak_memory_stats()
    kept = torch.zeros(8 << 20, dtype=torch.uint8, device="cuda")
    passing = torch.zeros(32 << 20, dtype=torch.uint8, device="cuda")
    del passing
    found = vram_in_use()
    assert found["vram_resting_bytes"] >= kept.nbytes
    assert found["vram_peak_bytes"] >= found["vram_resting_bytes"] + (32 << 20)
    assert found["vram_reserved_bytes"] >= found["vram_peak_bytes"]
