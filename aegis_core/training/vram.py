"""Into what a training on CUDA has divided its memory, as torch's allocator counts it."""

import torch


def vram_in_use() -> dict[str, int]:
    """Bytes on the first card, each part containing the one before it; nothing without CUDA.

    `vram_resting_bytes` is what stays between two steps (weights, adapters, optimiser), `vram_peak_bytes` the most that
    was in use at once since the training began, `vram_reserved_bytes` what the allocator holds. Reading them does not
    wait for the card.
    """
    if not torch.cuda.is_available():
        return {}
    return {
        "vram_resting_bytes": torch.cuda.memory_allocated(),
        "vram_peak_bytes": torch.cuda.max_memory_allocated(),
        "vram_reserved_bytes": torch.cuda.memory_reserved(),
    }
