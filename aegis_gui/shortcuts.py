"""Every key that does something, by where it does it: what the window binds and the help sheet lists. Qt-free."""

from dataclasses import dataclass

from .i18n import mark


@dataclass(frozen=True)
class Shortcut:
    """`keys` are shown as they are, one cap each; `bound` are the sequences that the window itself listens for."""

    keys: tuple[str, ...]
    meaning: str
    bound: tuple[str, ...] = ()


GROUPS: tuple[tuple[str, tuple[Shortcut, ...]], ...] = (
    (
        mark("Everywhere"),
        (
            Shortcut(("Ctrl+Enter",), mark("The primary action of the page"), ("Ctrl+Return", "Ctrl+Enter")),
            Shortcut(("Alt+←", "Alt+→"), mark("Back / Next"), ("Alt+Left", "Alt+Right")),
            Shortcut(
                ("Ctrl+0", "Ctrl+9"),
                mark("Go to the runs or to a step"),
                tuple(f"Ctrl+{number}" for number in range(10)),
            ),
            Shortcut(("Ctrl+N",), mark("Name and begin a new run"), ("Ctrl+N",)),
            Shortcut(("Ctrl+F",), mark("Search the runs"), ("Ctrl+F",)),
            Shortcut(("Ctrl+P",), mark("Pause or resume"), ("Ctrl+P",)),
            Shortcut(("Ctrl+L",), mark("Show or hide the log"), ("Ctrl+L",)),
            Shortcut(("Ctrl+,",), mark("Settings"), ("Ctrl+,",)),
            Shortcut(("F1",), mark("This help"), ("F1",)),
            Shortcut(("Tab", "Shift+Tab"), mark("The next or previous control")),
        ),
    ),
    (
        mark("On a run's card"),
        (
            Shortcut(("↑", "↓"), mark("The card above or below")),
            Shortcut(("Enter",), mark("Open the run")),
            Shortcut(("Space",), mark("Choose for comparing")),
            Shortcut(("D",), mark("Duplicate with changes")),
            Shortcut(("Del",), mark("Delete, after a question")),
            Shortcut(("Shift+F10",), mark("Everything else that can be done with it")),
            Shortcut(("Esc",), mark("Close what was unfolded, leave a comparison")),
        ),
    ),
    (
        mark("In a plot"),
        (
            Shortcut((mark("Wheel"),), mark("Zoom along the steps")),
            Shortcut((mark("Drag"),), mark("Move along the steps")),
            Shortcut((mark("Double click"),), mark("The whole run again")),
            Shortcut(("←", "→"), mark("Move the crosshair")),
            Shortcut(("+", "−", "0"), mark("Zoom in, out, show everything")),
        ),
    ),
    (
        mark("In a conversation"),
        (
            Shortcut(("Enter",), mark("Send")),
            Shortcut(("Shift+Enter",), mark("Begin a new line")),
            Shortcut(("Esc",), mark("Stop the answer")),
            Shortcut(("↑",), mark("Edit the last question")),
        ),
    ),
    (
        mark("In a form"),
        (Shortcut(("↑", "↓"), mark("Change a whole number by one")),),
    ),
)


def bound_sequences() -> set[str]:
    """The key sequences that the window listens for."""
    return {keys for _, shortcuts in GROUPS for shortcut in shortcuts for keys in shortcut.bound}
