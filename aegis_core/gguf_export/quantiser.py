"""Float32 rows as quantised bytes: by llama.cpp's own function where one can be called, by libgguf otherwise.

Both are the same source compiled twice, and the former may be faster. It is taken only if it gives the very same bytes
on a sample, so which of them made a file never shows in the file.
"""

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import libgguf
import numpy as np
import xllamacpp
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type

LIBGGUF = "libgguf"
N_SAMPLE_ROWS, N_SAMPLE_COLUMNS = 96, 1024
_BLOCK_ROWS = 16  # what one thread takes at a time: few, so that no core waits for another at a block's end

Encode = Callable[[np.ndarray, Type], np.ndarray]


@dataclass(frozen=True)
class Quantiser:
    """`encode` turns float32 rows (n, columns), C-ordered, into uint8 (n, bytes per row); `name` goes into the log."""

    name: str
    encode: Encode


@dataclass(frozen=True)
class Candidate:
    """A shared library that may export llama.cpp's quantising function, and what to call it in the log."""

    name: str
    library: Path


def choose_quantiser(kinds: Iterable[Type], candidates: Iterable[Candidate] | None = None) -> Quantiser:
    """The first candidate that can be called and gives libgguf's bytes for all `kinds`; else libgguf itself.

    Unasked, the candidates are the llama.cpp that this program chats with, then those that Ollama brings along.
    """
    wanted = [kind for kind in dict.fromkeys(kinds) if is_quantised(kind)]
    reference = Quantiser(LIBGGUF, libgguf.quantize_rows)
    if not wanted:
        return reference
    for candidate in known_libraries() if candidates is None else candidates:
        encode = _of_library(candidate.library)
        if encode and _same_bytes(encode, reference.encode, wanted):
            return Quantiser(candidate.name, encode)
    return reference


def is_quantised(kind: Type) -> bool:
    return GGML_QUANT_SIZES[kind][0] > 1


def known_libraries(
    folders: Callable[[], Iterable[Path]] | None = None, bundled: Path | None = None
) -> Iterator[Candidate]:
    """Libraries of this machine that may export the function, the one that was installed with this program first."""
    bundled = bundled or Path(xllamacpp.__file__).parent
    for library in (path for pattern in ("*.so", "*.pyd") for path in sorted(bundled.glob(pattern))):
        yield Candidate("llama.cpp (xllamacpp)", library)
    for folder in (folders or _ollama_folders)():
        for name in ("ggml-base.dll", "libggml-base.dylib", "libggml-base.so"):
            if (folder / name).is_file():
                yield Candidate("llama.cpp (Ollama)", folder / name)


def _ollama_folders() -> Iterator[Path]:
    """Where Ollama's installers put their libraries: on Windows, macOS and Linux."""
    local = os.environ.get("LOCALAPPDATA")
    if local:
        yield Path(local) / "Programs" / "Ollama" / "lib" / "ollama"
    yield Path("/Applications/Ollama.app/Contents/Resources")
    yield Path("/usr/local/lib/ollama")
    yield Path("/usr/lib/ollama")


def _of_library(library: Path) -> Encode | None:
    """ggml_quantize_chunk of a library, rows shared among all cores; None where it cannot be called.

    The GIL is free while it works.
    """
    try:
        function = ctypes.CDLL(str(library)).ggml_quantize_chunk
    except (OSError, AttributeError):  # made for another system, or the symbol is not exported
        return None
    function.restype = ctypes.c_size_t
    function.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        *[ctypes.c_int64] * 3,
        ctypes.c_void_p,
    ]
    pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="quantise")

    def encode(rows: np.ndarray, kind: Type) -> np.ndarray:
        n_rows, n_columns = rows.shape
        block, size = GGML_QUANT_SIZES[kind]
        found = np.empty((n_rows, n_columns // block * size), np.uint8)

        def part(first: int) -> None:
            n = min(_BLOCK_ROWS, n_rows - first)
            function(kind.value, rows.ctypes.data, found.ctypes.data, first * n_columns, n, n_columns, None)

        for _ in pool.map(part, range(0, n_rows, _BLOCK_ROWS)):
            pass
        return found

    return encode


def _same_bytes(one: Encode, other: Encode, kinds: list[Type]) -> bool:
    rows = _sample()
    return all(np.array_equal(one(rows, kind), other(rows, kind)) for kind in kinds)


def _sample() -> np.ndarray:
    """Rows as weights are, rounded to F16 as they will be, with outliers, zeros and tiny values among them."""
    draw = np.random.default_rng(7)
    rows = draw.standard_normal((N_SAMPLE_ROWS, N_SAMPLE_COLUMNS)) * 10.0 ** draw.uniform(-4, 0, (N_SAMPLE_ROWS, 1))
    rows[1] = 0
    rows[2, 5] = 40.0
    rows[3] = np.abs(rows[3])
    rows[4, 256:] *= 1e-3
    return rows.astype(np.float16).astype(np.float32)
