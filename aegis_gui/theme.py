"""The visual language: one set of colour and size tokens per theme, and everything that is made from them."""

from dataclasses import dataclass
from functools import lru_cache

from PySide6.QtCore import QByteArray, QObject, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QFont, QGuiApplication, QIcon, QPainter, QPalette, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication

from aegis_core.resources import RESOURCES

from .stylesheet import stylesheet

# Latin first where the system has its own, then a Japanese companion; the last resort is Qt's choice.
FAMILIES = ("Segoe UI", "Noto Sans", "Yu Gothic UI", "Noto Sans CJK JP", "Noto Sans JP", "Meiryo", "Hiragino Sans")
MONOSPACED = ("Cascadia Mono", "Consolas", "Noto Sans Mono", "DejaVu Sans Mono")
UNIT = 4  # px; every margin and gap is a multiple
SMALL, BODY, LARGE, TITLE, DISPLAY = 12, 13, 15, 20, 28  # px
REGULAR, STRONG = QFont.Weight.Normal, QFont.Weight.DemiBold


@dataclass(frozen=True)
class Theme:
    """Colours by meaning. `success`, `warning` and `danger` are for verdicts only and never stand alone:
    a shape or a word goes with them. `accent` is for alpha and the primary action."""

    name: str
    window: str
    surface: str
    sunken: str
    hover: str
    hairline: str
    control: str
    text: str
    secondary: str
    disabled: str
    accent: str
    accent_hover: str
    accent_soft: str
    on_accent: str
    focus: str
    success: str
    warning: str
    danger: str
    # curves
    alpha: str
    gate: str
    loss: str
    loss_raw: str
    control_run: str
    fixed_run: str
    held_out: str
    memory: str
    reference: str
    grid: str
    band_latent: str
    band_critical: str
    band_settled: str

    @property
    def is_dark(self) -> bool:
        return self.name == "dark"


LIGHT = Theme(
    name="light",
    window="#F4F4F2",
    surface="#FFFFFF",
    sunken="#ECECE9",
    hover="#E7E7E3",
    hairline="#DBDBD6",
    control="#8C8C86",
    text="#1B1B19",
    secondary="#5A5A55",
    disabled="#9A9A94",
    accent="#876100",
    accent_hover="#6F5000",
    accent_soft="#F4ECD8",
    on_accent="#FFFFFF",
    focus="#2F2F2B",
    success="#1A7340",
    warning="#8F4D00",
    danger="#B3261E",
    alpha="#876100",
    gate="#B8913A",
    loss="#1C68A8",
    loss_raw="#A9C8E2",
    control_run="#6A6A65",
    fixed_run="#A0365F",
    held_out="#7444AB",
    memory="#0E7373",
    reference="#6A6A65",
    grid="#ECECE9",
    band_latent="#F7F7F5",
    band_critical="#FAF3E2",
    band_settled="#F0F4F1",
)
DARK = Theme(
    name="dark",
    window="#161615",
    surface="#1D1D1C",
    sunken="#111110",
    hover="#2A2A28",
    hairline="#353532",
    control="#7A7A74",
    text="#ECECE7",
    secondary="#ABABA4",
    disabled="#6C6C67",
    accent="#D9AB42",
    accent_hover="#E8C06A",
    accent_soft="#2E2717",
    on_accent="#1A1400",
    focus="#ECECE7",
    success="#5FCB8C",
    warning="#F2A650",
    danger="#FF8B82",
    alpha="#D9AB42",
    gate="#9C7F3F",
    loss="#6DB5F1",
    loss_raw="#2F5675",
    control_run="#9B9B95",
    fixed_run="#F08DB2",
    held_out="#B998F2",
    memory="#50C4BD",
    reference="#9B9B95",
    grid="#262624",
    band_latent="#1B1B1A",
    band_critical="#26210F",
    band_settled="#182019",
)
THEMES = {theme.name: theme for theme in (LIGHT, DARK)}


def contrast(one: str, other: str) -> float:
    """WCAG contrast ratio of two colours, 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    def linear(channel: float) -> float:
        return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4

    rgb = QColor(colour)
    return 0.2126 * linear(rgb.redF()) + 0.7152 * linear(rgb.greenF()) + 0.0722 * linear(rgb.blueF())


def font(size: int = BODY, weight: QFont.Weight = REGULAR) -> QFont:
    """The interface font at a size in px."""
    made = QFont()
    made.setFamilies([*FAMILIES, QApplication.font().family()])
    made.setPixelSize(size)
    made.setWeight(weight)
    return made


def tabular(size: int = BODY, weight: QFont.Weight = REGULAR) -> QFont:
    """The interface font with figures of one width, for numbers that change."""
    made = font(size, weight)
    made.setFeature(QFont.Tag("tnum"), 1)
    return made


def monospaced(size: int = BODY) -> QFont:
    """For what is typed into a terminal; Japanese comes from the interface font's companions."""
    made = QFont()
    made.setFamilies([*MONOSPACED, *FAMILIES])
    made.setPixelSize(size)
    return made


@lru_cache(maxsize=256)
def icon(name: str, colour: str, size: int = 16) -> QIcon:
    """resources/icons/NAME.svg drawn in one colour, sharp up to three times its size."""
    svg = (RESOURCES / "icons" / f"{name}.svg").read_text(encoding="utf-8").replace("currentColor", colour)
    renderer = QSvgRenderer(QByteArray(svg.encode()))
    made = QIcon()
    for scale in (1, 2, 3):
        pixmap = QPixmap(size * scale, size * scale)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        renderer.render(painter, QRectF(0, 0, size * scale, size * scale))
        painter.end()
        pixmap.setDevicePixelRatio(scale)
        made.addPixmap(pixmap)
    return made


def palette(theme: Theme) -> QPalette:
    """For what a style sheet does not reach: tooltips, file dialogs, placeholder text."""
    made = QPalette()
    role = QPalette.ColorRole
    colours = {
        role.Window: theme.window,
        role.Base: theme.surface,
        role.AlternateBase: theme.window,
        role.Button: theme.surface,
        role.ToolTipBase: theme.surface,
        role.Text: theme.text,
        role.WindowText: theme.text,
        role.ButtonText: theme.text,
        role.ToolTipText: theme.text,
        role.PlaceholderText: theme.secondary,
        role.Highlight: theme.accent,
        role.HighlightedText: theme.on_accent,
        role.Link: theme.accent,
        role.Mid: theme.hairline,
    }
    for name, colour in colours.items():
        made.setColor(name, QColor(colour))
    for name in (role.Text, role.WindowText, role.ButtonText):
        made.setColor(QPalette.ColorGroup.Disabled, name, QColor(theme.disabled))
    return made


class Appearance(QObject):
    """The one theme of the application: light, dark, or whatever the system shows ("system")."""

    changed = Signal(object)  # the new Theme

    def __init__(self, app: QApplication) -> None:
        super().__init__(app)
        self._app = app
        self.choice = "system"
        self.theme = LIGHT
        app.setStyle("Fusion")
        QGuiApplication.styleHints().colorSchemeChanged.connect(self._follow_system)

    def use(self, choice: str) -> None:
        """Show "light", "dark" or "system" from now on."""
        self.choice = choice
        system = DARK if QGuiApplication.styleHints().colorScheme() == Qt.ColorScheme.Dark else LIGHT
        self.theme = THEMES.get(choice, system)
        self._app.setStyleSheet("")  # replacing one sheet by another at once takes ten times as long
        self._app.setFont(font())
        self._app.setPalette(palette(self.theme))
        self._app.setStyleSheet(stylesheet(self.theme))
        self.changed.emit(self.theme)

    def _follow_system(self) -> None:
        if self.choice == "system":
            self.use("system")
