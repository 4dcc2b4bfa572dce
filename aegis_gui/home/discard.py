"""Deleting by way of the recycle bin, never past it."""

from pathlib import Path

from PySide6.QtCore import QFile
from PySide6.QtWidgets import QMessageBox, QWidget

from aegis_core.failures import UserError
from aegis_core.removal import Removal

from .. import text
from ..i18n import filled, tr


def discard(path: Path) -> None:
    """Move a file or folder to the recycle bin; UserError, and it is still there, if the bin does not take it."""
    file = QFile(str(path))
    if not file.moveToTrash() or path.exists():
        raise UserError(
            "The recycle bin did not take {path}.",
            "Close programs that use it, or delete it by hand.",
            path=path,
        )


def confirmation(found: Removal, parent: QWidget) -> QMessageBox:
    """The question before a run is deleted: how much it is, and what outside of it stays. Not shown yet."""
    box = QMessageBox(parent)
    box.setWindowTitle("AEGIS")
    box.setText(filled("Move “{name}” to the recycle bin?", name=found.path.name))
    said = [filled("{size} in {folder}.", size=text.size(found.n_bytes), folder=found.path)]
    if found.elsewhere:
        said += ["", tr("These folders outside the run stay where they are:"), *map(str, found.elsewhere)]
    box.setInformativeText("\n".join(said))
    box.addButton(tr("Move to the recycle bin"), QMessageBox.ButtonRole.AcceptRole)
    stay = box.addButton(tr("Cancel"), QMessageBox.ButtonRole.RejectRole)
    box.setDefaultButton(stay)
    box.setEscapeButton(stay)
    return box
