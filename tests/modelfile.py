"""How Ollama reads a Modelfile, character by character, by the rules of its own parser."""

NEWLINES, SPACES = "\r\n", " \t"
LISTS = ("stop",)


def parse(text: str) -> list[tuple[str, str]]:
    """(command, value) in order; a parameter has its own name as command. ValueError where Ollama stops reading."""
    commands: list[tuple[str, str]] = []
    place = 0
    while place < len(text):
        sign = text[place]
        if sign == "#":
            while place < len(text) and text[place] not in NEWLINES:
                place += 1
        elif sign in NEWLINES + SPACES:
            place += 1
        else:
            name, place = _word(text, place)
            if name.lower() not in ("from", "template", "system", "parameter", "license", "adapter", "message"):
                raise ValueError(f"command must be one of …, not {name!r}")
            if name.lower() == "parameter":
                name, place = _word(text, place)
            value, place = _value(text, place)
            commands.append((name.lower(), value))
    if not any(name == "from" for name, _ in commands):
        raise ValueError("no FROM line")
    return commands


def request(text: str) -> dict[str, object]:
    """What `ollama create -f` would send, without the model's name and its files' digests."""
    found: dict[str, object] = {}
    parameters: dict[str, object] = {}
    for name, value in parse(text):
        if name in ("from", "template", "system", "license"):
            found[name] = value
        elif name in LISTS:
            parameters.setdefault(name, [])
            parameters[name].append(value)  # type: ignore[attr-defined]
        else:
            parameters[name] = float(value)
    return found | {"parameters": parameters}


def _word(text: str, place: int) -> tuple[str, int]:
    begin = place
    while place < len(text) and text[place] not in SPACES:
        if not (text[place].isalnum() or text[place] == "_"):
            raise ValueError(f"unexpected {text[place]!r}")
        place += 1
    return text[begin:place], place + 1


def _value(text: str, place: int) -> tuple[str, int]:
    """Up to the first line end at which what was read is whole; what Go does not call printable is passed over."""
    read = ""
    while place < len(text):
        sign = text[place]
        if sign in NEWLINES:
            value = _unquoted(read.strip())
            if value is not None:
                return value, place
        if sign in NEWLINES + SPACES or sign.isprintable():
            read += sign
        place += 1
    value = _unquoted(read.strip())
    if value is None:
        raise ValueError("unexpected EOF")
    return value, place


def _unquoted(value: str) -> str | None:
    """None while the quotation is open."""
    if value.startswith('"""'):
        return value[3:-3] if len(value) >= 6 and value.endswith('"""') else None
    if value.startswith('"'):
        return value[1:-1] if len(value) >= 2 and value.endswith('"') else None
    return value
