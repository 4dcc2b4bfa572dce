"""The part of Go's text/template that chat templates use: text, output, if, range, variables, eq, ne, not."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ACTION = re.compile(r"\{\{(-\s)?\s*(.*?)\s*(\s-)?\}\}", re.DOTALL)
WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')
FUNCTIONS = ("eq", "ne", "not", "and", "or", "len")


class TemplateSyntaxError(ValueError):
    """What Go's parser would refuse."""


@dataclass
class Block:
    """A range or an if; `parts` are the branches as (condition, nodes), else has the condition "true"."""

    kind: str
    parts: list[tuple[str, list[Any]]]


def render(source: str, values: dict[str, Any]) -> str:
    """The template filled with `values`, e.g. {"Messages": [{"Role": "user", "Content": "…"}]}."""
    nodes, _ = _parse(iter(_tokens(source)))
    return "".join(_run(nodes, values, {"$": values}))


def check(source: str) -> None:
    """TemplateSyntaxError unless Go would take it."""
    _check(_parse(iter(_tokens(source)))[0])


def _tokens(source: str) -> list[tuple[str, str]]:
    found, place = [], 0
    trim_next = False
    for match in ACTION.finditer(source):
        text = source[place : match.start()]
        text = text.lstrip() if trim_next else text
        found.append(("text", text.rstrip() if match[1] else text))
        found.append(("action", match[2]))
        trim_next, place = bool(match[3]), match.end()
    rest = source[place:]
    if "{{" in rest:
        raise TemplateSyntaxError("template: :1: unclosed action")
    found.append(("text", rest.lstrip() if trim_next else rest))
    return found


def _parse(tokens: Iterator[tuple[str, str]]) -> tuple[list[Any], str]:
    nodes: list[Any] = []
    for kind, text in tokens:
        word = text.split(" ", 1)[0] if kind == "action" else ""
        if word in ("if", "range"):
            nodes.append(_block(word, text[len(word) :].strip(), tokens))
        elif word in ("else", "end"):
            return nodes, text
        else:
            nodes.append((kind, text))
    return nodes, ""


def _block(kind: str, condition: str, tokens: Iterator[tuple[str, str]]) -> Block:
    parts = []
    while True:
        nodes, ended = _parse(tokens)
        parts.append((condition, nodes))
        if ended == "end":
            return Block(kind, parts)
        if not ended:
            raise TemplateSyntaxError("template: :1: unexpected EOF")
        condition = ended.removeprefix("else").strip().removeprefix("if").strip() or "true"


def _check(nodes: list[Any]) -> None:
    for node in nodes:
        if isinstance(node, Block):
            for _, inner in node.parts:
                _check(inner)
        elif node[0] == "action" and re.match(r"[A-Za-z_]", node[1]) and node[1].split()[0] not in FUNCTIONS:
            raise TemplateSyntaxError(f'template: :1: function "{node[1].split()[0]}" not defined')


def _run(nodes: list[Any], dot: Any, variables: dict[str, Any]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Block):
            yield from _run_block(node, dot, variables)
        elif node[0] == "text":
            yield node[1]
        elif assigned := re.fullmatch(r"(\$\w+)\s*:?=\s*(.*)", node[1], re.DOTALL):
            variables[assigned[1]] = _value(assigned[2], dot, variables)
        elif node[1] and not node[1].startswith("/*"):
            yield str(_value(node[1], dot, variables))


def _run_block(block: Block, dot: Any, variables: dict[str, Any]) -> Iterator[str]:
    if block.kind == "range":
        condition, nodes = block.parts[0]
        for item in _value(condition, dot, variables):
            yield from _run(nodes, item, variables)
        return
    for condition, nodes in block.parts:
        if condition == "true" or _value(condition, dot, variables):
            yield from _run(nodes, dot, variables)
            return


def _value(expression: str, dot: Any, variables: dict[str, Any]) -> Any:
    words = WORD.findall(expression)
    if words[0] not in FUNCTIONS:
        return _operand(words[0], dot, variables)
    values = [_operand(word, dot, variables) for word in words[1:]]
    match words[0]:
        case "eq":
            return values[0] in values[1:]
        case "ne":
            return values[0] != values[1]
        case "not":
            return not values[0]
        case "and":
            return all(values)
        case "or":
            return any(values)
    return len(values[0])


def _operand(word: str, dot: Any, variables: dict[str, Any]) -> Any:
    if word.startswith('"'):
        return json.loads(word)
    if word.startswith("$"):
        name, *path = word.split(".")
        return _field(variables[name], path)
    return _field(dot, word.removeprefix(".").split(".") if word != "." else [])


def _field(value: Any, path: list[str]) -> Any:
    for name in path:
        value = value[name]
    return value
