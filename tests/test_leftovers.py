"""The check that every test goes through sees what a test can leave behind, and nothing else."""

import time
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
HERE = Path(__file__).parent
LEAVING = {
    "thread": """
        from PySide6.QtCore import QThread
        class Thread(QThread):
            def run(self): self.msleep(60_000)
        kept = []
        def test_leaves(qapp):
            kept.append(Thread()); kept[0].start()
            """,
    "timer": """
        from PySide6.QtCore import QTimer
        kept = []
        def test_leaves(qapp):
            kept.append(QTimer()); kept[0].start(1000)
            """,
    "process": """
        import subprocess, sys
        kept = []
        def test_leaves(qapp):
            kept.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
            """,
}
TIDY = """
    import subprocess, sys, pytest
    from PySide6.QtCore import QObject, QThread, QTimer
    from PySide6.QtWidgets import QWidget
    class Thread(QThread):
        def run(self): self.msleep(20)
    @pytest.fixture(scope="module")
    def shared(qapp):
        window = QWidget(); window.timer = QTimer(window)
        yield window
        window.deleteLater()
    def test_tidy(qapp, shared):
        shared.timer.start(1000)
        owner = QObject(); timer = QTimer(owner); timer.start(1000); owner.deleteLater()
        thread = Thread(qapp); thread.start()
        forgotten = QTimer(); forgotten.itself = forgotten; forgotten.start(1000)
        subprocess.run([sys.executable, "-c", ""], check=True)
        dead = subprocess.Popen([sys.executable, "-c", ""])
    """
CONFTEST = f"""
    import sys; sys.path.insert(0, {str(HERE)!r})
    import leftovers; leftovers.PATIENCE_MILLISECONDS = 700
    from conftest_of_aegis import nothing_left_behind, started
    """


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder whose tests go through the check that ours do."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(conftest_of_aegis=(HERE / "conftest.py").read_text(encoding="utf-8"))
    return pytester


@pytest.mark.parametrize("what", LEAVING)
def test_a_test_that_leaves_something_behind_fails(suite: pytest.Pytester, what: str) -> None:
    suite.makepyfile(LEAVING[what])
    result = suite.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, errors=1)
    expected = {"thread": "*a running*Thread*", "timer": "*a ticking*QTimer*", "process": "*a process: *sleep(60)*"}
    result.stdout.fnmatch_lines(["*The test left behind " + expected[what]])


def test_a_tidy_test_passes(suite: pytest.Pytester) -> None:
    suite.makepyfile(TIDY)
    suite.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_looking_costs_next_to_nothing() -> None:
    import leftovers

    began = time.perf_counter()
    for _ in range(20):
        leftovers.left_processes(leftovers.children())
    assert (time.perf_counter() - began) / 20 < 0.25
