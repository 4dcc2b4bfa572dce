"""The file types export can write, finest first: their names and what their numbers may cost. Light: no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """Largest and mean |Δ log p| of torch's likeliest token in nats, and the part of positions with the same one.

    llama.cpp multiplies quantised weights with activations it quantises to 8 bits, and BF16 weights with activations
    it rounds to BF16: those cannot agree closer.
    """

    largest: float
    mean: float
    same: float


@dataclass(frozen=True)
class FileType:
    """`label` is the name in file names and texts; `bytes_per_parameter` a rounded-up size for first estimates.

    `quantised`: fewer than 16 bits a weight. `largest_loss` is what the held-out loss may lie above the unquantised
    model's, in nats: twice what the type usually costs. `tolerance` is for llama.cpp against torch on the same file.
    """

    label: str
    quantised: bool
    bytes_per_parameter: float
    largest_loss: float
    tolerance: Tolerance


_EXACT = Tolerance(0.05, 0.02, 1.0)
_ROUNDED = Tolerance(0.5, 0.08, 0.9)
_COARSE = Tolerance(1.0, 0.15, 0.85)

FILE_TYPES: dict[str, FileType] = {
    "f32": FileType("F32", False, 4.0, 0.01, _EXACT),
    "bf16": FileType("BF16", False, 2.0, 0.01, _ROUNDED),
    "f16": FileType("F16", False, 2.0, 0.01, _EXACT),
    "q8_0": FileType("Q8_0", True, 1.07, 0.02, _COARSE),
    "q6_k": FileType("Q6_K", True, 0.83, 0.04, _COARSE),
    "q5_k_m": FileType("Q5_K_M", True, 0.72, 0.08, _COARSE),
    "q4_k_m": FileType("Q4_K_M", True, 0.64, 0.15, _COARSE),
    "q4_k_s": FileType("Q4_K_S", True, 0.60, 0.20, _COARSE),
}
