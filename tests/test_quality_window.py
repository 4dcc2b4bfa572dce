"""The quality chain in the window: every figure with its error, in both languages, and older run logs without."""

import pytest
from PySide6.QtWidgets import QApplication, QLabel
from pytestqt.qtbot import QtBot

from aegis_gui.i18n import Language, tr
from aegis_gui.quality_chain import HEADINGS, QualityChain

BASE = {"loss": 3.3026, "perplexity": 27.18, "n_tokens": 20320, "standard_error": 0.0312, "kl": 3e-7}
GATED = {
    "loss": 2.9491, "perplexity": 19.09, "n_tokens": 20320, "standard_error": 0.0305,
    "kl": 0.5338, "kl_standard_error": 0.0126, "kl_tokens": 2048,
    "against_base": {"stage": "base", "difference": -0.3535, "standard_error": 0.0052, "n_tokens": 20320},
    "against_previous": {"stage": "lora", "difference": 0.0001, "standard_error": 0.0002, "n_tokens": 20320},
}  # fmt: skip


def said(chain: QualityChain) -> list[str]:
    return [label.text() for label in chain.findChildren(QLabel) if label.window() is chain and label.text()]


@pytest.mark.parametrize("spoken", ["en", "ja"])
def test_every_figure_stands_with_its_error(qapp: QApplication, qtbot: QtBot, spoken: str) -> None:
    language = Language(qapp)
    language.use(spoken)
    try:
        chain = QualityChain()
        qtbot.addWidget(chain)
        chain.show_quality({"base": BASE, "gated": GATED})
        words = said(chain)
        for figure, error in (("2.9491", "0.0305"), ("−0.3535", "0.0052"), ("+0.0001", "0.0002"), ("0.5338", "0.0126")):
            assert words[words.index(figure) + 1] == f"± {error}"
        assert {tr(heading) for heading in HEADINGS} <= set(words)
        assert "3e-7" not in words and words.count("0.0000") == 0  # the base's distance to itself is no result
    finally:
        language.use("en")


def test_a_run_log_without_errors_shows_bare_figures(qtbot: QtBot) -> None:
    chain = QualityChain()
    qtbot.addWidget(chain)
    chain.show_quality({"base": {"loss": 3.3026}, "gated": {"loss": 2.9491}})
    words = said(chain)
    assert "2.9491" in words and "−0.3535" in words
    assert not [word for word in words if word.startswith("± 0")]
