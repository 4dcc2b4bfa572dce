"""The part of Go's text/template that our chat templates use; test_chat_template_go.py holds it against real Go.

Text, output, comments, trim marks, if / else if / else, range (with $index, $value), variables with Go's scopes, and
the functions eq ne not and or len slice index.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

BLANKS = " \t\r\n"
TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|:=|=|,|\(|\)|-?\d+|\$?\w*(?:\.\w+)+|\$\w*|\.|\w+|(\s+)')
FUNCTIONS = ("eq", "ne", "not", "and", "or", "len", "slice", "index")
CONSTANTS = {"true": True, "false": False}


class TemplateSyntaxError(ValueError):
    """What Go's parser would refuse."""


@dataclass
class Block:
    """A range or an if: `branches` as (words of the condition, nodes); else has the condition true."""

    kind: str
    branches: list[tuple[list[str], list[Any]]]


@dataclass
class Scope:
    """Variables declared in a block end with it; an assignment changes the one that is visible."""

    outer: "Scope | None"
    own: dict[str, Any] = field(default_factory=dict)

    def holder(self, name: str) -> "Scope":
        if name in self.own:
            return self
        if self.outer is None:
            raise TemplateSyntaxError(f'template: :1: undefined variable "{name}"')
        return self.outer.holder(name)


def render(source: str, values: dict[str, Any]) -> str:
    """The template filled with `values`, e.g. {"Messages": [{"Role": "user", "Content": "…"}]}."""
    nodes = _parsed(source)
    return "".join(_run(nodes, values, Scope(None, {"$": values})))


def check(source: str) -> None:
    """TemplateSyntaxError unless Go would take it."""
    _check(_parsed(source), Scope(None, {"$": None}))


def _parsed(source: str) -> list[Any]:
    nodes, ended = _parse(_pieces(source))
    if ended:
        raise TemplateSyntaxError(f"template: :1: unexpected {{{{{ended[0]}}}}}")
    return nodes


def _pieces(source: str) -> Iterator[tuple[str, Any]]:
    """("text", str) and ("action", words), blanks trimmed where the marks say so."""
    rest, trim = source, False
    while True:
        text, opened, rest = rest.partition("{{")
        text = text.lstrip(BLANKS) if trim else text
        if not opened:
            yield "text", text
            return
        if rest[:1] == "-" and rest[1:2] in BLANKS:
            text, rest = text.rstrip(BLANKS), rest[2:]
        yield "text", text
        words, rest, trim = _action(rest)
        yield "action", words


def _action(rest: str) -> tuple[list[str], str, bool]:
    """The words of an action, what follows it, and whether blanks there are trimmed."""
    words: list[str] = []
    if rest.startswith("/*"):
        rest = rest.partition("*/")[2]
    while True:
        if closing := re.match(r"\s-\}\}|\s*\}\}", rest):
            return words, rest[closing.end() :], "-" in closing[0]
        token = TOKEN.match(rest)
        if not token:
            raise TemplateSyntaxError(f"template: :1: unclosed action or bad character in {rest[:20]!r}")
        words += [] if token[1] else [token[0]]
        rest = rest[token.end() :]


def _parse(pieces: Iterator[tuple[str, Any]]) -> tuple[list[Any], list[str]]:
    nodes: list[Any] = []
    for kind, content in pieces:
        if kind == "text":
            nodes.append(content)
        elif content[:1] in (["if"], ["range"]):
            nodes.append(_block(content[0], content[1:], pieces))
        elif content[:1] in (["else"], ["end"]):
            return nodes, content
        elif content:
            nodes.append(content)
    return nodes, []


def _block(kind: str, condition: list[str], pieces: Iterator[tuple[str, Any]]) -> Block:
    branches = []
    while True:
        nodes, ended = _parse(pieces)
        branches.append((condition, nodes))
        if not ended:
            raise TemplateSyntaxError("template: :1: unexpected EOF")
        if ended == ["end"]:
            return Block(kind, branches)
        condition = ended[2:] if ended[:2] == ["else", "if"] else ["true"]


def _check(nodes: list[Any], scope: Scope) -> None:
    for node in nodes:
        if isinstance(node, Block):
            inner = Scope(scope)
            for condition, branch in node.branches:
                names, expression = _range_head(condition) if node.kind == "range" else ([], condition)
                inner.own |= dict.fromkeys(names)
                _check_words(expression, inner)
                _check(branch, Scope(inner))
        elif isinstance(node, list):
            declared = node[1:2] == [":="]
            _check_words(node[2:] if declared else node, scope)
            scope.own |= {node[0]: None} if declared else {}


def _check_words(words: list[str], scope: Scope) -> None:
    for word in words:
        if re.match(r"[A-Za-z_]", word) and word not in (*FUNCTIONS, *CONSTANTS):
            raise TemplateSyntaxError(f'template: :1: function "{word}" not defined')
        if word.startswith("$"):
            scope.holder(word.partition(".")[0])


def _range_head(words: list[str]) -> tuple[list[str], list[str]]:
    if ":=" not in words:
        return [], words
    place = words.index(":=")
    return [word for word in words[:place] if word != ","], words[place + 1 :]


def _run(nodes: list[Any], dot: Any, scope: Scope) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, Block):
            yield from _run_block(node, dot, scope)
        elif node[1:2] == [":="]:
            scope.own[node[0]] = _value(node[2:], dot, scope)
        elif node[1:2] == ["="]:
            scope.holder(node[0]).own[node[0]] = _value(node[2:], dot, scope)
        else:
            found = _value(node, dot, scope)
            yield {True: "true", False: "false"}[found] if isinstance(found, bool) else str(found)


def _run_block(block: Block, dot: Any, scope: Scope) -> Iterator[str]:
    if block.kind == "range":
        names, expression = _range_head(block.branches[0][0])
        items = _value(expression, dot, scope)
        for place, item in enumerate(items):
            named = dict(zip(names, (place, item), strict=False)) if len(names) == 2 else dict.fromkeys(names, item)
            yield from _run(block.branches[0][1], item, Scope(scope, named))
        for _, nodes in block.branches[1:] if not items else []:
            yield from _run(nodes, dot, Scope(scope))
        return
    for condition, nodes in block.branches:
        if _value(condition, dot, scope):
            yield from _run(nodes, dot, Scope(scope))
            return


def _value(words: list[str], dot: Any, scope: Scope) -> Any:
    values, rest = _operands(words, dot, scope)
    assert not rest
    return _called(words[0], values)


def _operands(words: list[str], dot: Any, scope: Scope) -> tuple[list[Any], list[str]]:
    """The operands up to the end or a closing bracket; a function in front is left to `_called`."""
    rest = words[1:] if words[0] in FUNCTIONS else words
    values = []
    while rest and rest[0] != ")":
        if rest[0] == "(":
            inner, after = _operands(rest[1:], dot, scope)
            values.append(_called(rest[1], inner))
            rest = after[1:]
        else:
            values.append(_operand(rest[0], dot, scope))
            rest = rest[1:]
    return values, rest


def _called(function: str, values: list[Any]) -> Any:
    match function:
        case "eq":
            return values[0] in values[1:]
        case "ne":
            return values[0] != values[1]
        case "not":
            return not values[0]
        case "and":
            return next((value for value in values if not value), values[-1])
        case "or":
            return next((value for value in values if value), values[-1])
        case "len":
            return len(values[0])
        case "slice":
            return values[0][slice(*values[1:]) if len(values) > 2 else slice(values[1], None)]
        case "index":
            return values[0][values[1]]
    (value,) = values
    return value


def _operand(word: str, dot: Any, scope: Scope) -> Any:
    if word.startswith('"'):
        return json.loads(word)
    if word in CONSTANTS:
        return CONSTANTS[word]
    if re.fullmatch(r"-?\d+", word):
        return int(word)
    name, *path = word.split(".")
    value = scope.holder(name).own[name] if name else dot
    for step in filter(None, path):
        value = value[step]
    return value
