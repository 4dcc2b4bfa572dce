"""A short question to the engine: a process whose answer is read when it has ended."""

from PySide6.QtCore import QObject, QProcess, QProcessEnvironment

from aegis_core import platforms
from aegis_core.engine.command import engine_environment


class EngineProcess(QProcess):
    """Runs as every engine does: in its own environment, without the window's libraries."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        environment = QProcessEnvironment()
        for name, value in engine_environment().items():
            environment.insert(name, value)
        self.setProcessEnvironment(environment)

    def begin(self, command: list[str]) -> None:
        """`command` is that of `engine_command`; what cannot start emits errorOccurred alone."""
        program, *arguments = command
        with platforms.here().apart():
            self.start(program, arguments)
