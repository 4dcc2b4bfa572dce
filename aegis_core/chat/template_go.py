"""A chat format in Go's template language, as Ollama takes it."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .template import ChatFormat, SystemPlace


def go_template(format: "ChatFormat", server_adds_bos: bool) -> str:
    """The format over `.Messages`; without the leading token if the server adds it.

    What every question begins with is written once, before `.Content`; what depends on what came before (a default
    system text, the leading token) is told apart by `$before`.
    """

    def leading(value: str) -> str:
        return value.removeprefix(format.bos) if server_adds_bos else value

    place, without = format.system, leading(format.without_system)
    lead_ins = [without, format.before_user]
    if place is not None:
        lead_ins += [place.after] if place.late is None else [leading(place.before), place.late]
    heading = format.before_user if all(text.endswith(format.before_user) for text in lead_ins) else ""
    if place is not None and place.late is not None:
        lines = _late_system(place, leading(place.before), without, format.before_user, heading)
    else:
        lines = _early_system(place, leading(place.before) if place else "", without, format.before_user, heading)
    lines[-1] += "{{ .Content }}" + _text(format.after_user) + '{{- $before = "user" }}{{- end }}'
    answer = _text(format.before_assistant) + "{{ .Content }}" + _text(format.after_assistant)
    lines += [_if('eq .Role "assistant"', answer + '{{- $before = "assistant" }}')]
    return "\n".join([*lines, "{{- end }}" + _text(format.opening)])


def _early_system(place: "SystemPlace | None", before_system: str, without: str, again: str, heading: str) -> list[str]:
    """Up to the content of a question, which is left open; the system text where it is met."""
    lines = ['{{- $before := "" }}', "{{- range .Messages }}"]
    if place is not None:
        after = _text(place.after.removesuffix(heading))
        told = _text(before_system) + "{{ .Content }}" + after + '{{- $before = "system" }}'
        lines += [_if('eq .Role "system"', told)]
    first = _if('eq $before ""', _text(without.removesuffix(heading)))
    later = _if('eq $before "assistant"', _text(again.removesuffix(heading)))
    return [*lines, '{{- if eq .Role "user" }}' + first + later + _text(heading)]


def _late_system(place: "SystemPlace", before_system: str, without: str, again: str, heading: str) -> list[str]:
    """The same where the system text is kept until the last question."""
    lead_ins = [
        ('and (eq $before "") (not $late)', without),
        ('and (eq $before "") $late', before_system),
        ('and (ne $before "") (not $late)', again),
        ('and (ne $before "") $late', place.late or ""),
    ]
    return [
        '{{- $before := "" }}{{- $told := false }}{{- $system := "" }}',
        "{{- range $i, $message := .Messages }}",
        '{{- if eq .Role "system" }}{{- $told = true }}{{- $system = .Content }}{{- end }}',
        '{{- if eq .Role "user" }}{{- $late := and $told (eq (len (slice $.Messages $i)) 1) }}'
        + "".join(_if(condition, _text(text.removesuffix(heading))) for condition, text in lead_ins)
        + _text(heading)
        + _if("$late", "{{ $system }}" + _text(place.after)),
    ]


def _text(value: str) -> str:
    """An action that puts out exactly this text; Go's string literals take JSON's escapes."""
    return "{{ " + json.dumps(value, ensure_ascii=False) + " }}" if value else ""


def _if(condition: str, then: str) -> str:
    return f"{{{{- if {condition} }}}}{then}{{{{- end }}}}" if then else ""
