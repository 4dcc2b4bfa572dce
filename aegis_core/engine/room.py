"""The room that an engine takes on the disk: forecast before anything is asked, reckoned once its files are known."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..failures import UserError
from ..hardware import disk_free_bytes
from .parts import Parts
from .place import Place
from .resolution import Wheel
from .torch_build import TorchBuild
from .wish import Wish, wished_build

PYTHON_BYTES = 120_000_000  # the Python that uv brings, unpacked
# How many times larger packages are than their wheels: 1.36 GB from 388 MB on Linux with torch's CPU build. Torch and
# NVIDIA's libraries have figures of their own (`TorchBuild`): they are most of what is fetched, and packed otherwise.
UNPACKED = 3.6


@dataclass(frozen=True)
class Need:
    """What setting up takes, before anything is fetched; expectations, rounded."""

    build: TorchBuild
    fetched_bytes: int
    disk_bytes: int
    free_bytes: int | None

    @property
    def fits(self) -> bool:
        return self.free_bytes is None or self.free_bytes >= self.disk_bytes


def need(place: Place, parts: Parts, wish: Wish) -> Need:
    """For an engine of which nothing is there, with the build of torch that it would get now."""
    build, _ = wished_build(place, wish)
    fetched = parts.download_bytes + build.fetched_bytes + (0 if wish.python else PYTHON_BYTES // 4)
    unpacked = round(parts.download_bytes * UNPACKED) + build.unpacked_bytes + PYTHON_BYTES
    return Need(build, fetched, fetched + unpacked, disk_free_bytes(place.folder))


def room_bytes(missing: Sequence[Wheel], build: TorchBuild) -> int:
    """What these wheels take, fetched and unpacked side by side. Those that the lock does not name are torch's."""
    sizes = [(wheel.size_bytes or 0, wheel.locked) for wheel in missing]
    locked, torch = (sum(size for size, is_locked in sizes if is_locked is which) for which in (True, False))
    return round(locked * (1 + UNPACKED) + torch * (1 + build.unpacked_bytes / build.fetched_bytes))


def refuse_a_full_disk(place: Place, missing: Sequence[Wheel], build: TorchBuild) -> None:
    """UserError if there is too little room for these wheels; what a first attempt fetched of them counts as there."""
    drafts = [place.downloads / name for wheel in missing for name in (wheel.file, f"{wheel.file}.part")]
    wanted = room_bytes(missing, build) - sum(file.stat().st_size for file in drafts if file.is_file())
    free = disk_free_bytes(place.folder)
    if free is not None and free < wanted:
        raise UserError(
            "The engine needs {wanted} GB on the disk and {free} GB are free.",
            "Free some disk space and try again.",
            wanted=f"{wanted / 1e9:.1f}",
            free=f"{free / 1e9:.1f}",
        )
