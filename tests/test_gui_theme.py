"""Both themes can be read by everybody, and every picture the window asks for is there."""

import re
from pathlib import Path

import pytest
from PySide6.QtGui import QColor

from aegis_core.resources import RESOURCES
from aegis_gui import theme as themes
from aegis_gui.theme import Theme, contrast

WRITTEN = (
    "text", "secondary", "accent", "success", "warning", "danger", "loss", "held_out", "memory", "control_run",
    "fixed_run",
)  # fmt: skip
GUI = Path(themes.__file__).parent


@pytest.mark.parametrize("theme", themes.THEMES.values(), ids=lambda theme: theme.name)
@pytest.mark.parametrize("ground", ["window", "surface"])
@pytest.mark.parametrize("ink", WRITTEN)
def test_text_stands_out_from_what_it_is_written_on(theme: Theme, ground: str, ink: str) -> None:
    assert contrast(getattr(theme, ink), getattr(theme, ground)) >= 4.5


@pytest.mark.parametrize("theme", themes.THEMES.values(), ids=lambda theme: theme.name)
def test_buttons_and_hovered_rows_can_be_read(theme: Theme) -> None:
    assert contrast(theme.on_accent, theme.accent) >= 4.5
    assert contrast(theme.on_accent, theme.accent_hover) >= 4.5
    for ground in (theme.hover, theme.sunken, theme.band_latent, theme.band_critical, theme.band_settled):
        assert contrast(theme.text, ground) >= 4.5
        assert contrast(theme.secondary, ground) >= 4.5


@pytest.mark.parametrize("theme", themes.THEMES.values(), ids=lambda theme: theme.name)
def test_edges_of_controls_and_the_focus_can_be_seen(theme: Theme) -> None:
    assert contrast(theme.control, theme.surface) >= 3
    assert contrast(theme.focus, theme.surface) >= 4.5


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_every_icon_that_is_asked_for_exists(qapp: object) -> None:
    asked = set()
    for path in GUI.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        asked |= set(re.findall(r'\bicon\(\s*"([a-z-]+)"', source))
    from aegis_gui.text import STATUS_ICONS

    asked |= set(STATUS_ICONS.values())
    assert len(asked) > 10
    for name in asked:
        assert not themes.icon(name, "#123456").isNull(), name


def test_pictures_of_the_style_sheet_exist_in_both_themes() -> None:
    for theme in themes.THEMES.values():
        for path in re.findall(r'url\("([^"]+)"\)', themes.stylesheet(theme)):
            assert Path(path).is_file(), path


def test_an_icon_takes_the_colour_it_is_given(qapp: object) -> None:
    image = themes.icon("stop", "#ff0000", 32).pixmap(32, 32).toImage()
    colours = {
        image.pixelColor(x, y).name() for x in range(32) for y in range(32) if image.pixelColor(x, y).alpha() == 255
    }
    assert colours == {QColor("#ff0000").name()}


def test_icons_are_drawn_in_one_colour_only() -> None:
    for path in (RESOURCES / "icons").glob("*.svg"):
        source = path.read_text(encoding="utf-8")
        fixed = path.stem.endswith(("-light", "-dark"))
        assert fixed or not re.search(r"#[0-9a-fA-F]{3}", source), path.name
