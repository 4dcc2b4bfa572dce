"""The style sheet, generated from a theme's tokens."""

from __future__ import annotations

from dataclasses import asdict
from string import Template
from typing import TYPE_CHECKING

from aegis_core.resources import RESOURCES

if TYPE_CHECKING:
    from .theme import Theme

_QSS = Template("""
QWidget { color: $text; font-size: 13px; }
QMainWindow, QDialog, #page, #pages, #rail, #header, #footer, QScrollArea, #scrolled { background: $window; }
QScrollArea { border: none; }
QToolTip { background: $surface; color: $text; border: 1px solid $hairline; padding: 6px 8px; }

QLabel { background: transparent; }
QLabel[role="title"] { font-size: 20px; font-weight: 600; }
QLabel[role="display"] { font-size: 28px; font-weight: 600; }
QLabel[role="heading"] { font-size: 15px; font-weight: 600; }
QLabel[role="strong"] { font-weight: 600; }
QLabel[role="secondary"] { color: $secondary; }
QLabel[role="small"] { color: $secondary; font-size: 12px; }
QLabel[role="legend"] { font-size: 12px; }
QLabel[role="error"] { color: $danger; font-size: 12px; }
QLabel[role="pass"] { color: $success; }
QLabel[role="warn"] { color: $warning; }
QLabel[role="fail"] { color: $danger; }
QLabel[role="key"] { background: $sunken; border: 1px solid $hairline; border-radius: 4px; padding: 1px 6px;
    font-size: 12px; }
QLabel[role="brand"] { font-size: 15px; font-weight: 600; color: $accent; letter-spacing: 3px; }

QFrame[role="card"] { background: $surface; border: 1px solid $hairline; border-radius: 8px; }
QFrame[role="card"][chosen="true"] { border: 1px solid $focus; }
QFrame[role="run"] { background: $surface; border: 1px solid $hairline; border-radius: 8px; padding: 1px; }
QFrame[role="run"]:hover { border-color: $control; }
QFrame[role="run"][chosen="true"] { border: 1px solid $control; }
QFrame[role="run"]:focus { border: 2px solid $focus; padding: 0; }
QFrame[role="failure"] { background: $surface; border: 1px solid $hairline; border-left: 4px solid $danger;
    border-radius: 8px; }
QFrame[role="notice"] { background: $surface; border: 1px solid $hairline; border-left: 4px solid $warning;
    border-radius: 8px; }
QFrame[role="rule"] { background: $hairline; border: none; max-height: 1px; min-height: 1px; }
QFrame[role="vertical-rule"] { background: $hairline; border: none; max-width: 1px; min-width: 1px; }

QPushButton { background: $surface; border: 1px solid $control; border-radius: 8px; padding: 6px 16px;
    min-height: 20px; }
QPushButton:hover { background: $hover; }
QPushButton:pressed { background: $sunken; }
QPushButton:focus { border: 2px solid $focus; padding: 5px 15px; }
QPushButton:disabled { color: $disabled; border-color: $hairline; background: transparent; }
QPushButton[role="primary"] { background: $accent; color: $on_accent; border: 1px solid $accent; font-weight: 600;
    padding: 6px 24px; }
QPushButton[role="primary"]:hover { background: $accent_hover; border-color: $accent_hover; }
QPushButton[role="primary"]:focus { border: 2px solid $focus; padding: 5px 23px; }
QPushButton[role="primary"]:disabled { background: $sunken; color: $disabled; border-color: $hairline; }
QPushButton[role="quiet"], QToolButton { background: transparent; border: 1px solid transparent; border-radius: 8px;
    padding: 4px 8px; }
QPushButton[role="quiet"]:hover, QToolButton:hover { background: $hover; }
QPushButton[role="quiet"]:focus, QToolButton:focus { border: 1px solid $focus; }
QToolButton:checked { background: $hover; }
QToolButton:disabled { color: $disabled; }
QToolButton[role="fold"] { font-weight: 600; padding: 4px 8px 4px 0; }
QToolButton[role="plot-title"] { font-size: 12px; font-weight: 600; padding: 0 4px; border-radius: 4px; }
QToolButton[role="plot-tool"] { padding: 0; border-radius: 4px; }
QToolButton::menu-indicator { image: none; }

QLineEdit, QPlainTextEdit, QTextEdit, QAbstractSpinBox, QComboBox { background: $surface; color: $text;
    border: 1px solid $control; border-radius: 6px; padding: 4px 8px; min-height: 20px;
    selection-background-color: $accent; selection-color: $on_accent; }
QLineEdit:focus, QPlainTextEdit:focus, QTextEdit:focus, QAbstractSpinBox:focus, QComboBox:focus {
    border: 2px solid $focus; padding: 3px 7px; }
QLineEdit:disabled, QAbstractSpinBox:disabled, QComboBox:disabled { color: $disabled; background: $window;
    border-color: $hairline; }
QLineEdit[invalid="true"], QAbstractSpinBox[invalid="true"] { border: 2px solid $danger; padding: 3px 7px; }
QComboBox::drop-down { border: none; width: 24px; }
QComboBox::down-arrow { image: url("$icons/chevron-down-$name.svg"); width: 12px; height: 12px; }
QComboBox QAbstractItemView { background: $surface; border: 1px solid $hairline; outline: none;
    selection-background-color: $hover; selection-color: $text; padding: 4px; }
QAbstractSpinBox::up-button, QAbstractSpinBox::down-button { width: 0; border: none; }

QCheckBox, QRadioButton { spacing: 8px; padding: 2px; border: 1px solid transparent; border-radius: 4px; }
QCheckBox:focus, QRadioButton:focus { border: 1px solid $focus; }
QCheckBox::indicator { width: 16px; height: 16px; border: 1px solid $control; border-radius: 4px;
    background: $surface; }
QCheckBox::indicator:checked { background: $text; border-color: $text; image: url("$icons/check-$name.svg"); }
QCheckBox:disabled { color: $disabled; }
QCheckBox::indicator:disabled { border-color: $hairline; background: $window; }
QCheckBox::indicator:checked:disabled { background: $disabled; }

QProgressBar { background: $sunken; border: none; border-radius: 2px; max-height: 4px; min-height: 4px; }
QProgressBar::chunk { background: $text; border-radius: 2px; }

QTableView, QTableWidget, QListView, QListWidget { background: $surface; border: 1px solid $hairline;
    border-radius: 8px; gridline-color: $hairline; outline: none; selection-background-color: $hover;
    selection-color: $text; alternate-background-color: $window; }
QTableView::item, QTableWidget::item { padding: 4px 8px; }
QTableView:focus, QListView:focus { border: 1px solid $focus; }
QHeaderView { background: transparent; }
QHeaderView::section { background: $surface; color: $secondary; border: none; border-bottom: 1px solid $hairline;
    padding: 8px; font-size: 12px; }
QTableCornerButton::section { background: $surface; border: none; }

QSlider { min-height: 20px; }
QSlider::groove:horizontal { background: $hairline; height: 4px; border-radius: 2px; }
QSlider::sub-page:horizontal { background: $control; border-radius: 2px; }
QSlider::handle:horizontal { background: $text; width: 12px; height: 12px; margin: -4px 0; border-radius: 6px; }
QSlider:focus { border: 1px solid $focus; border-radius: 4px; }

QScrollBar:vertical { background: transparent; width: 12px; margin: 0; }
QScrollBar:horizontal { background: transparent; height: 12px; margin: 0; }
QScrollBar::handle { background: $hairline; border-radius: 4px; margin: 2px; min-height: 32px; min-width: 32px; }
QScrollBar::handle:hover { background: $control; }
QScrollBar::add-line, QScrollBar::sub-line { width: 0; height: 0; }
QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }

QMenu { background: $surface; border: 1px solid $hairline; padding: 4px; }
QMenu::item { padding: 6px 24px 6px 16px; border-radius: 4px; }
QMenu::icon { padding-left: 8px; }
QMenu::item:selected { background: $hover; }
QMenu::item:disabled { color: $disabled; }
QMenu::separator { height: 1px; background: $hairline; margin: 4px 8px; }

#rail QPushButton { text-align: left; background: transparent; border: 1px solid transparent; border-radius: 8px;
    padding: 0; min-height: 42px; }
#rail QPushButton[page="home"] { min-height: 32px; }
#rail QPushButton:hover { background: $hover; }
#rail QPushButton:focus { border: 1px solid $focus; }
#rail QPushButton:checked { background: $surface; border: 1px solid $hairline; font-weight: 600; }
#rail QPushButton:checked:focus { border: 1px solid $focus; }
#rail QPushButton:disabled { color: $disabled; }
#banner { background: $surface; border-bottom: 1px solid $hairline; }
#log { background: $surface; border: none; border-top: 1px solid $hairline; border-radius: 0; }
#strip { background: $surface; border-top: 1px solid $hairline; }
QSplitter::handle { background: $hairline; }
""")


def stylesheet(theme: Theme) -> str:
    """Qt style sheet of the whole application; tokens and the folder of its pictures put in."""
    return _QSS.substitute(asdict(theme), icons=(RESOURCES / "icons").as_posix())
