"""`$(NAME)` in commands, arguments and environment values.

`$$` is a literal dollar, an unknown name and an unclosed reference stay as they are, and what was put in is not
looked at again. Source: Kubernetes "Define dependent environment variables"; third_party/forked/golang/expansion
(v1.36).
"""

from __future__ import annotations

from collections.abc import Mapping


def expand(text: str, *mappings: Mapping[str, str]) -> str:
    """Return `text` with each `$(NAME)` replaced by its value in the first mapping that has it."""
    output: list[str] = []
    position = 0
    while True:
        dollar = text.find("$", position)
        if dollar < 0 or dollar + 1 == len(text):
            output.append(text[position:])
            return "".join(output)
        output.append(text[position:dollar])
        following = text[dollar + 1]
        position = dollar + 2
        if following == "$":
            output.append("$")
        elif following == "(":
            end = text.find(")", position)
            if end < 0:
                output.append("$(")
            else:
                output.append(_value(text[position:end], mappings))
                position = end + 1
        else:
            output.append("$" + following)


def _value(name: str, mappings: tuple[Mapping[str, str], ...]) -> str:
    for mapping in mappings:
        if name in mapping:
            return mapping[name]
    return f"$({name})"
