"""safetensors files whose bytes depend on their content alone."""

import json

from safetensors.torch import save
from torch import Tensor


def in_fixed_order(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """The file with its header sorted: by itself, safetensors orders metadata at random."""
    file = save(tensors, metadata)
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    padded = header.ljust(-(-len(header) // 8) * 8)  # the tensors stay aligned
    return len(padded).to_bytes(8, "little") + padded + file[end:]
