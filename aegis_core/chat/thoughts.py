"""Thoughts in an answer: Ollama may tell them apart from it, and both backends shall answer alike."""

from typing import Any

BEGIN, END = "<think>\n", "\n</think>\n\n"


class Thoughts:
    """Puts thoughts that come apart back into the text, between the marks by which models themselves write them."""

    def __init__(self) -> None:
        self._thinking = False

    def text(self, message: dict[str, Any]) -> str:
        """What a piece of an answer ({"content", "thinking"}) adds to the text."""
        thought, content = str(message.get("thinking") or ""), str(message.get("content") or "")
        added = (BEGIN if thought and not self._thinking else "") + thought
        self._thinking = self._thinking or bool(thought)
        if content and self._thinking:
            added, self._thinking = added + END, False
        return added + content
