"""The plots of the soul injection: which there are, in the order in which they are offered."""

from .alpha_plot import MAX_DRAWN_SCHEDULE, AlphaPlot
from .live_plot import LivePlot
from .loss_plot import LossPlot
from .machine_plots import LoadPlot, PowerPlot, SpeedPlot
from .memory_plot import ALLOCATED, MemoryPlot
from .optimiser_plots import GradientPlot, LearningRatePlot
from .portrait_plot import PortraitPlot
from .rotation_plots import OrthogonalityPlot, RotationPlot
from .theme import Theme

__all__ = ["ALLOCATED", "MAX_DRAWN_SCHEDULE", "AlphaPlot", "LossPlot", "MemoryPlot", "Plots", "RotationPlot"]

FIRST_CHOICE = ("loss", "alpha", "memory", "rotation")


class Plots:
    """All of them, each a widget of its own; which are on screen is not decided here."""

    def __init__(self, theme: Theme) -> None:
        self.loss, self.alpha = LossPlot(theme), AlphaPlot(theme)
        self.portrait = PortraitPlot(theme, self.alpha.alpha_series, self.loss.smoothed_series)
        self.memory, self.rotation = MemoryPlot(theme), RotationPlot(theme)
        self.orthogonality = OrthogonalityPlot(theme)
        self.rate, self.gradient = LearningRatePlot(theme), GradientPlot(theme)
        self.speed, self.load, self.power = SpeedPlot(theme), LoadPlot(theme), PowerPlot(theme)
        self.named: dict[str, LivePlot] = {
            "loss": self.loss,
            "alpha": self.alpha,
            "portrait": self.portrait,
            "rotation": self.rotation,
            "orthogonality": self.orthogonality,
            "learning_rate": self.rate,
            "gradient": self.gradient,
            "memory": self.memory,
            "load": self.load,
            "power": self.power,
            "speed": self.speed,
        }

    @property
    def of_steps(self) -> list[LivePlot]:
        """Those with the axis of steps, which zoom and pan together."""
        return [plot for plot in self.named.values() if plot is not self.portrait]
