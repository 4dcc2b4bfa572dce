"""A model's chat template, learnt from the tokenizer's own renderings, as data, as a Go template and as stop strings.

Probe conversations with marked contents show what the Jinja template puts before, between and after the messages. The
result renders conversations by itself; it counts only where it agrees, token by token, with the tokenizer.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from jinja2.exceptions import TemplateError

from ..failures import UserError

Message = dict[str, str]
Render = Callable[[list[Message], bool], str]
"""(messages, add_generation_prompt) -> text, as the tokenizer renders it."""

SYSTEM, USER, ASSISTANT, SECOND_USER = "Qsysq", "Quserq", "Qassistq", "Qsecondq"


@dataclass(frozen=True)
class ChatFormat:
    """The texts between the contents of a conversation that alternates user and assistant, system first or absent.

    `without_system` stands before the first user message where there is no system message: it holds a default system
    prompt if the template has one. `before_system` and `after_system` (the latter up to the first user content) are
    None where the template takes no system message. `opening` invites the answer. `bos` is the token that leads.
    """

    bos: str
    without_system: str
    before_system: str | None
    after_system: str | None
    after_user: str
    before_assistant: str
    after_assistant: str
    before_user: str
    opening: str
    stops: tuple[str, ...]

    def render(self, messages: list[Message]) -> str:
        """The prompt for an answer to the conversation; UserError for a system message the model has no place for."""
        parts, before = [], ""
        for message in messages:
            role, content = message["role"], message["content"]
            if role == "system":
                parts += [*self._around_system(content)]
            elif role == "user":
                parts += [self.without_system if not before else self.before_user if before == "assistant" else ""]
                parts += [content, self.after_user]
            else:
                parts += [self.before_assistant, content, self.after_assistant]
            before = role
        return "".join(parts) + self.opening

    def go_template(self, server_adds_bos: bool) -> str:
        """The same as a Go template for Ollama, over `.Messages`; without the leading token if the server adds it."""

        def text(value: str) -> str:
            return "{{ " + json.dumps(value, ensure_ascii=False) + " }}" if value else ""

        def leading(value: str) -> str:
            return text(value.removeprefix(self.bos) if server_adds_bos else value)

        lines = ['{{- $before := "" }}', "{{- range .Messages }}"]
        if self.before_system is not None and self.after_system is not None:
            lines += [
                '{{- if eq .Role "system" }}'
                f"{leading(self.before_system)}{{{{ .Content }}}}{text(self.after_system)}{{{{- end }}}}"
            ]
        lines += [
            '{{- if eq .Role "user" }}'
            f'{{{{- if eq $before "" }}}}{leading(self.without_system)}{{{{- end }}}}'
            f'{{{{- if eq $before "assistant" }}}}{text(self.before_user)}{{{{- end }}}}'
            f"{{{{ .Content }}}}{text(self.after_user)}{{{{- end }}}}",
            '{{- if eq .Role "assistant" }}'
            f"{text(self.before_assistant)}{{{{ .Content }}}}{text(self.after_assistant)}{{{{- end }}}}",
            "{{- $before = .Role }}",
            "{{- end }}" + text(self.opening),
        ]
        return "\n".join(lines)

    def _around_system(self, content: str) -> tuple[str, str, str]:
        if self.before_system is None or self.after_system is None:
            raise UserError(
                "This model's chat template has no place for a system message.", "Leave the system prompt empty."
            )
        return self.before_system, content, self.after_system


def derive_format(render: Render, special_tokens: list[str], bos: str, eos: tuple[str, ...]) -> ChatFormat:
    """The format behind a tokenizer's template; UserError with both renderings where it follows another pattern.

    `special_tokens` are all control tokens as text, `eos` those that end an answer.
    """
    first, after_first = _between(render(_talk(USER), True), USER)
    _, unprompted = _between(render(_talk(USER), False), USER)
    _, u_a, a_u, _ = _between(render(_talk(USER, ASSISTANT, SECOND_USER), True), USER, ASSISTANT, SECOND_USER)
    _, _, closing = _between(render(_talk(USER, ASSISTANT), False), USER, ASSISTANT)
    after_user = _shared_start(_shared_start(unprompted, u_a, special_tokens), after_first, special_tokens)
    after_assistant = _shared_start(closing, a_u, special_tokens)
    before_system, after_system = _system_parts(render)
    leading = [text.removeprefix(bos) for text in (first, before_system or "")]
    texts = (after_assistant, a_u, u_a, after_first, *leading, after_system or "")
    derived = ChatFormat(
        bos=bos if bos and first.startswith(bos) else "",
        without_system=first,
        before_system=before_system,
        after_system=after_system,
        after_user=after_user,
        before_assistant=u_a[len(after_user) :],
        after_assistant=after_assistant,
        before_user=a_u[len(after_assistant) :],
        opening=after_first[len(after_user) :],
        stops=_stops(texts, special_tokens, eos, a_u[len(after_assistant) :]),
    )
    return derived


def verify_format(derived: ChatFormat, render: Render, encode: Callable[[str], list[int]]) -> None:
    """UserError, both renderings shown, unless the format agrees with the tokenizer on every probe conversation."""
    for messages in probe_conversations(with_system=derived.before_system is not None):
        ours, theirs = derived.render(messages), render(messages, True)
        if ours != theirs or encode(ours) != encode(theirs):
            raise UserError(
                "Ollama cannot be given the chat template of this model: it renders {theirs}, derived was {ours}.",
                "Set chat.backend to embedded: the built-in llama.cpp uses the template as it is.",
                theirs=json.dumps(theirs, ensure_ascii=False),
                ours=json.dumps(ours, ensure_ascii=False),
            )


def probe_conversations(with_system: bool) -> list[list[Message]]:
    """Conversations of one to six turns, with and without system message, Japanese, code, an empty content."""
    turns = [
        "Why?",
        "時間はなぜ不可逆なのですか？",
        "Entropy.",
        "",
        "a\n\n  b = {x}",
        "乱雑さが増えます。",
        "1 < 2",
        "Yes.",
    ]
    talks = [_talk(*(turns * 2)[start : start + n]) for start, n in ((0, 1), (1, 3), (2, 5), (4, 7), (1, 11), (3, 1))]
    systems = [{"role": "system", "content": text} for text in ("Be brief.", "簡潔に。\nPlease.")]
    return talks + ([[system, *talk] for system in systems for talk in talks] if with_system else [])


def _talk(*contents: str) -> list[Message]:
    return [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(contents)]


def _system_parts(render: Render) -> tuple[str | None, str | None]:
    try:
        rendered = render([{"role": "system", "content": SYSTEM}, *_talk(USER)], True)
    except (TemplateError, ValueError):
        return None, None  # such templates raise an error of their own
    if SYSTEM not in rendered:
        return None, None
    before, after, _ = _between(rendered, SYSTEM, USER)
    return before, after


def _between(rendered: str, *contents: str) -> list[str]:
    """What stands before, between and after the contents, in this order; UserError if one is not there once."""
    parts, rest = [], rendered
    for content in contents:
        before, found, rest = rest.partition(content)
        if not found or content in rest:
            raise UserError(
                "The chat template of this model cannot be understood: it renders {rendered}.",
                "Set chat.backend to embedded: the built-in llama.cpp uses the template as it is.",
                rendered=json.dumps(rendered, ensure_ascii=False),
            )
        parts.append(before)
    return [*parts, rest]


def _shared_start(a: str, b: str, special_tokens: list[str]) -> str:
    """The longest common start that does not cut a special token in two."""
    shared = []
    for left, right in zip(_atoms(a, special_tokens), _atoms(b, special_tokens), strict=False):
        if left != right:
            break
        shared.append(left)
    return "".join(shared)


def _atoms(text: str, special_tokens: list[str]) -> list[str]:
    longest_first = sorted(special_tokens, key=len, reverse=True)
    return re.findall("|".join([*(re.escape(token) for token in longest_first), r"[\s\S]"]), text)


def _stops(
    texts: tuple[str, ...], special_tokens: list[str], eos: tuple[str, ...], before_user: str
) -> tuple[str, ...]:
    """Control tokens of the template and of the end of text; a plain role heading where the template has no tokens."""
    special = set(special_tokens)
    used = [atom for text in texts for atom in _atoms(text, special_tokens) if atom in special]
    headings = [] if any(token in before_user for token in special) else [before_user.strip()]
    return tuple(dict.fromkeys(stop for stop in (*used, *eos, *headings) if stop))
