"""Which build of torch this machine wants: the newest for CUDA that its driver and card can use, else the CPU's.

The table is start.py's, which must stand alone and so has its own copy; a test holds the two against each other.
"""

from dataclasses import dataclass

from ..failures import UsageError
from ..hardware import CudaCard, cuda_card

GIGABYTE = 1_000_000_000
AUTO = "auto"


@dataclass(frozen=True)
class TorchBuild:
    """`tag` as PyTorch's index names it. The sizes are rounded expectations for what is fetched and for what lies on
    the disk afterwards, torch with NVIDIA's libraries; only the index knows them exactly."""

    tag: str
    fetched_bytes: int
    unpacked_bytes: int
    oldest_driver_cuda: tuple[int, int] = (0, 0)
    oldest_card: tuple[int, int] = (0, 0)
    newest_card: tuple[int, int] = (99, 0)

    @property
    def is_cuda(self) -> bool:
        return self.tag.startswith("cu")

    def suits(self, card: CudaCard) -> bool:
        """Whether it is for CUDA and runs on this card with its driver."""
        fits = self.oldest_card <= card.level <= self.newest_card and card.driver_cuda >= self.oldest_driver_cuda
        return self.is_cuda and fits


CPU = TorchBuild("cpu", 200_000_000, 800_000_000)
CUDA = (
    TorchBuild("cu130", 3 * GIGABYTE, 6 * GIGABYTE, (13, 0), (7, 5)),
    TorchBuild("cu126", 3 * GIGABYTE, 6 * GIGABYTE, (12, 0), (5, 0), (9, 0)),
)
BUILDS = {build.tag: build for build in (CPU, *CUDA)}


def choose_build(card: CudaCard | None) -> TorchBuild:
    """The newest CUDA build that suits the driver and the newest card; for none of them the CPU's."""
    return next((build for build in CUDA if card is not None and build.suits(card)), CPU)


def kept_build(wish: str, before: str | None, chosen: bool) -> TorchBuild:
    """The build for an engine that has, or was about to get, the build `before`: that one again, unless another is
    wished by name. A build that nobody `chose` gives way to one for CUDA that suits a card which it does not suit; but
    a card that does not answer today (asleep, driver being updated) never costs the CUDA build."""
    if wish != AUTO or before not in BUILDS:
        return this_build(wish)
    known, card = BUILDS[before], cuda_card()
    if chosen or card is None or known.suits(card):
        return known
    fitting = choose_build(card)
    return fitting if fitting.is_cuda else known


def needed_driver(card: CudaCard) -> tuple[int, int] | None:
    """The oldest CUDA that a driver must run for any of the builds to use the card; None for a card too old or too new
    for all of them."""
    fitting = [b.oldest_driver_cuda for b in CUDA if b.oldest_card <= card.level <= b.newest_card]
    return min(fitting, default=None)


def this_build(wish: str = AUTO) -> TorchBuild:
    """The build of that tag, or the one that suits this machine; UsageError where there is no such build."""
    if wish == AUTO:
        return choose_build(cuda_card())
    if wish not in BUILDS:
        raise UsageError(
            "There is no build {build} of torch.", "There are: {names}.", build=wish, names=", ".join((AUTO, *BUILDS))
        )
    return BUILDS[wish]
