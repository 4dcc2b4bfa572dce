"""Learns a chat template from the tokenizer's own renderings of conversations with marked contents."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from ..failures import UserError
from .template import ChatFormat, Message, PromptMismatch, SystemPlace
from .template_contents import ALL_CLEANINGS

Render = Callable[[list[Message], bool], str]
"""(messages, add_generation_prompt) -> text, as the tokenizer renders it; UserError where its template refuses."""

SYSTEM, USER, ASSISTANT, SECOND_USER = "Qsysq", "Quserq", "Qassistq", "Qsecondq"
THOUGHTS = ("<think>", "</think>")
_TOLD: Message = {"role": "system", "content": SYSTEM}
# Contents on which the cleanings differ from each other.
_UNCLEAN = (
    "\n \n Qq \n \n",
    " <think>\n\n Qq </think>\n\n Qp \n</think>\n\n Qr \n",
    "Qp</think> \n Qq",
    "<think>Qq",
    "\t\nQq</think>",
    "",
)


def derive_format(render: Render, special_tokens: list[str], bos: str, eos: tuple[str, ...]) -> ChatFormat:
    """The format behind a tokenizer's template; UserError with its rendering where that follows another pattern.

    `special_tokens` are all control tokens as text, `eos` those that end an answer.
    """
    first, after_first = _between(render(talk(USER), True), USER)
    _, unprompted = _between(render(talk(USER), False), USER)
    _, u_a, a_u, _ = _between(render(talk(USER, ASSISTANT, SECOND_USER), True), USER, ASSISTANT, SECOND_USER)
    _, _, closing = _between(render(talk(USER, ASSISTANT), False), USER, ASSISTANT)
    after_user = _shared_start([unprompted, u_a, after_first], special_tokens)
    after_assistant = _shared_start([closing, a_u], special_tokens)
    system = _system_place(render, after_assistant)
    around = (system.before.removeprefix(bos), system.after) if system else ()
    texts = (after_assistant, a_u, u_a, after_first, first.removeprefix(bos), *around)
    derived = ChatFormat(
        bos=bos if bos and first.startswith(bos) else "",
        without_system=first,
        system=system,
        after_user=after_user,
        before_assistant=u_a[len(after_user) :],
        after_assistant=after_assistant,
        before_user=a_u[len(after_assistant) :],
        opening=after_first[len(after_user) :],
        stops=_stops(texts, special_tokens, eos, a_u[len(after_assistant) :]),
    )
    return _with_cleanings(derived, render)


def takes_system(render: Render) -> bool:
    """Whether a system message reaches the model at all: some templates refuse it, others leave it out in silence."""
    try:
        return SYSTEM in render([_TOLD, *talk(USER)], True)
    except UserError:
        return False


def talk(*contents: str) -> list[Message]:
    """Questions and answers in turn."""
    return [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(contents)]


def _system_place(render: Render, after_assistant: str) -> SystemPlace | None:
    if not takes_system(render):
        return None
    before, after, _ = _between(render([_TOLD, *talk(USER)], True), SYSTEM, USER)
    longer = render([_TOLD, *talk(USER, ASSISTANT, SECOND_USER)], True)
    late = None
    if USER in longer.partition(SYSTEM)[0]:
        _, _, to_system, _, _ = _between(longer, USER, ASSISTANT, SYSTEM, SECOND_USER)
        late = to_system.removeprefix(after_assistant)
    return SystemPlace(before, after, late)


def _with_cleanings(derived: ChatFormat, render: Render) -> ChatFormat:
    """Each role with the least cleaning under which the format agrees with the tokenizer on unclean contents."""

    def agrees(candidate: ChatFormat, talks: Iterable[list[Message]]) -> bool:
        return all(candidate.render(messages) == render(messages, True) for messages in talks)

    def asked(text: str) -> list[list[Message]]:
        return [talk(text), talk(USER, ASSISTANT, text), talk(text, ASSISTANT, USER)]

    def told(text: str) -> list[Message]:
        return [{"role": "system", "content": text}, *talk(USER)]

    places: dict[str, list[list[Message]]] = {
        "clean_user": [messages for text in _UNCLEAN for messages in asked(text)],
        "clean_assistant": [talk(USER, text, SECOND_USER) for text in _UNCLEAN],
        "clean_system": [told(text) for text in _UNCLEAN if text and "think" not in text],
    }
    for field, talks in places.items():
        if field == "clean_system" and derived.system is None:
            continue
        fitting = (replace(derived, **{field: cleaning}) for cleaning in ALL_CLEANINGS)  # type: ignore[arg-type]
        derived = next((candidate for candidate in fitting if agrees(candidate, talks)), derived)
    if derived.system and not agrees(derived, [told("")]):
        without = replace(derived, system=replace(derived.system, optional=True))
        derived = without if agrees(without, [told("")]) else derived
    return derived


def _between(rendered: str, *contents: str) -> list[str]:
    """What stands before, between and after the contents, in this order; UserError if one is not there once."""
    parts, rest = [], rendered
    for content in contents:
        before, found, rest = rest.partition(content)
        if not found or content in rest:
            raise PromptMismatch(
                "The chat template of this model cannot be understood: it renders {rendered}.",
                "Set chat.backend to embedded: the built-in llama.cpp uses the template as it is.",
                rendered=json.dumps(rendered, ensure_ascii=False),
            )
        parts.append(before)
    return [*parts, rest]


def _shared_start(texts: list[str], special_tokens: list[str]) -> str:
    """The longest common start that does not cut a special token in two."""
    shared = []
    for atoms in zip(*(_atoms(text, special_tokens) for text in texts), strict=False):
        if len(set(atoms)) > 1:
            break
        shared.append(atoms[0])
    return "".join(shared)


def _atoms(text: str, special_tokens: list[str]) -> list[str]:
    longest_first = sorted(special_tokens, key=len, reverse=True)
    return re.findall("|".join([*(re.escape(token) for token in longest_first), r"[\s\S]"]), text)


def _stops(
    texts: tuple[str, ...], special_tokens: list[str], eos: tuple[str, ...], before_user: str
) -> tuple[str, ...]:
    """Control tokens of the template and of the end of text; a plain role heading where the template has no tokens.

    Never the marks of thoughts: a model that thinks must get past them to its answer.
    """
    special = set(special_tokens)
    used = [atom for text in texts for atom in _atoms(text, special_tokens) if atom in special]
    headings = [] if any(token in before_user for token in special) else [before_user.strip()]
    return tuple(dict.fromkeys(stop for stop in (*used, *eos, *headings) if stop and stop not in THOUGHTS))
