"""Where a run writes: how fast that is, and whether its names become too long."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import constants

from .. import hardware, platforms
from ..events import CheckRow

_MB = 1e6
_SLOW_BYTES_PER_SECOND = 40 * _MB
_CHUNK_BYTES, _MOST_BYTES, _MOST_SECONDS = 4_000_000, 64_000_000, 0.6
_ROOM_BYTES = 2_000_000_000
# The longest names that a run and the hub's cache give to files below their folders.
_IN_RUN = "train/control/gate_open-1000/checkpoint-000500.part/adapter_model.safetensors.part"
_IN_CACHE = "models----/snapshots/" + "0" * 40 + "/model-00001-of-00002.safetensors"
_OWNER_AND_NAME = 50


def speed_rows(folder: Path, clock: Callable[[], float] = time.perf_counter) -> list[CheckRow]:
    """Writing, forced to the disk chunk by chunk; reading is not measured, since it would come out of the memory.

    At most 64 MB, at most a second on any but a broken disk. No row where there is no room or no right to try.
    """
    home = next((place for place in [folder.absolute(), *folder.absolute().parents] if place.is_dir()), None)
    if home is None or (hardware.disk_free_bytes(home) or 0) < _ROOM_BYTES:
        return []
    try:
        speed = _written(home, clock)
    except OSError as error:
        found = f"{home} cannot be written: {error.strerror or error}"
        return [CheckRow("disk speed", "warning", found, "Choose a folder of your own, for which no right is missing.")]
    found = f"{speed / _MB:.0f} MB/s written and forced to the disk at {home}"
    if speed < _SLOW_BYTES_PER_SECOND:
        fix = "Keep runs on an internal SSD; checkpoints and the fusion take long here, and nothing else is lost."
        return [CheckRow("disk speed", "warning", found, fix)]
    return [CheckRow("disk speed", "ok", found)]


def path_rows(folder: Path) -> list[CheckRow]:
    """No row where no path of ours comes near the system's limit."""
    limit = platforms.here().longest_path()
    if limit is None:
        return [CheckRow("long paths", "ok", "on")] if platforms.here().case_blind_drives else []
    longest = max(
        len(str(folder.expanduser().absolute())) + 1 + len(_IN_RUN),
        len(str(Path(constants.HF_HUB_CACHE).absolute())) + 1 + len(_IN_CACHE) + _OWNER_AND_NAME,
    )
    if longest > limit:
        found = f"names here become about {longest} characters long, and Windows takes {limit}"
        fix = (
            "Keep runs in a folder with a shorter name, such as C:\\AEGIS, or allow long paths in an administrator's "
            "PowerShell: Set-ItemProperty HKLM:\\SYSTEM\\CurrentControlSet\\Control\\FileSystem LongPathsEnabled 1"
        )
        return [CheckRow("long paths", "warning", found, fix)]
    return [CheckRow("long paths", "ok", f"about {longest} characters at most, and Windows takes {limit}")]


def _written(home: Path, clock: Callable[[], float]) -> float:
    """Bytes a second. The bytes are random: some disks and file systems make little of zeros."""
    chunk = os.urandom(_CHUNK_BYTES)
    n_bytes = 0
    with tempfile.TemporaryFile(dir=home, prefix=".aegis-", buffering=0) as file:
        begun = clock()
        while True:
            n_bytes += file.write(chunk)
            os.fsync(file.fileno())
            seconds = clock() - begun
            if n_bytes >= _MOST_BYTES or seconds >= _MOST_SECONDS:
                return n_bytes / max(seconds, 1e-6)
