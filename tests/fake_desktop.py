"""A desktop that notes what is asked of it: no sleep is kept off, no sound is heard, no taskbar is there."""

from dataclasses import dataclass, field

from aegis_gui.desktop import Bar, Desktop


@dataclass
class FakeDesktop:
    """`tray`: whether it says that it has one; `told` is what was asked, in order."""

    tray: bool = False
    told: list[str] = field(default_factory=list)
    bars: list[tuple[Bar, float]] = field(default_factory=list)

    def desktop(self) -> Desktop:
        return Desktop(self, self, lambda: self.told.append("chime"), lambda: self.tray)

    def hold(self) -> None:
        self.told.append("hold")

    def release(self) -> None:
        self.told.append("release")

    def show(self, window: int, bar: Bar, fraction: float) -> None:
        if not self.bars or self.bars[-1] != (bar, fraction):
            self.bars.append((bar, fraction))
