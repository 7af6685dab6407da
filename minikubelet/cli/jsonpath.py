r"""The JSONPath templates of kubectl: `{.items[*].metadata.name}`, `{range ...}...{end}`, filters, slices, unions.

A template is text with expressions in braces. An expression is a path (steps from the current object, `$` being the
whole), a quoted text, or `range`/`end` around a part that is done for each result. Results of one expression are
printed with a space between; texts as they are, everything else as JSON.
Source: Kubernetes "JSONPath Support"; client-go util/jsonpath (v1.36).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from minikubelet.cli.main import CommandFailed

Step = Callable[[Any, Any], Iterator[Any]]  # (value, whole document) -> the values one step further

_NAME = re.compile(r"(?:[^\s.\[\](){}\\'\"=<>!,?@*]|\\.)+")
_COMPARE = re.compile(r"(==|!=|<=|>=|<|>)")


class _Range(NamedTuple):
    steps: list[Step]
    body: list[Any]


class Template:
    """A template that was understood. Raises CommandFailed for one that cannot be."""

    def __init__(self, text: str) -> None:
        self._parts = _parse_template(text)

    def render(self, value: Any) -> str:
        """Return the template filled from one object."""
        return "".join(_render(self._parts, value, value))


def relaxed(text: str) -> str:
    """Return a path in any of the ways people write it, `.a.b`, `a.b`, `{.a.b}`, as a template."""
    stripped = text.strip()
    if stripped.startswith("{") and stripped.endswith("}"):
        stripped = stripped[1:-1].strip()
    if not stripped.startswith((".", "[", "$", "@")):
        stripped = f".{stripped}"
    return f"{{{stripped}}}"


def find(text: str, value: Any) -> list[Any]:
    """Return all values at a path written in any way."""
    steps = _parse_path(relaxed(text)[1:-1], text)
    return list(_walk(steps, value, value))


def _render(parts: Sequence[Any], value: Any, root: Any) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif isinstance(part, _Range):
            for one in _walk(part.steps, value, root):
                yield from _render(part.body, one, root)
        else:
            yield " ".join(as_text(one) for one in _walk(part, value, root))


def as_text(value: Any) -> str:
    """Return a value as kubectl prints it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _walk(steps: Sequence[Step], value: Any, root: Any) -> Iterator[Any]:
    if not steps:
        yield value
        return
    for one in steps[0](value, root):
        yield from _walk(steps[1:], one, root)


def _parse_template(text: str) -> list[Any]:
    stack: list[tuple[list[Step], list[Any]]] = [([], [])]
    position = 0
    while position < len(text):
        start = text.find("{", position)
        if start < 0:
            stack[-1][1].append(text[position:])
            break
        if start > position:
            stack[-1][1].append(text[position:start])
        end = _closing(text, start)
        _add(stack, text[start + 1 : end].strip(), text)
        position = end + 1
    if len(stack) > 1:
        raise _bad(text, "a {range} has no {end}")
    return stack[0][1]


def _add(stack: list[tuple[list[Step], list[Any]]], inner: str, text: str) -> None:
    if inner == "end":
        if len(stack) == 1:
            raise _bad(text, "an {end} has no {range}")
        steps, body = stack.pop()
        stack[-1][1].append(_Range(steps, body))
    elif inner.startswith("range"):
        stack.append((_parse_path(inner[5:].strip(), text), []))
    elif inner[:1] in ("'", '"'):
        stack[-1][1].append(_unquote(inner, text))
    elif inner:
        stack[-1][1].append(_parse_path(inner, text))


def _closing(text: str, start: int) -> int:
    quote = ""
    position = start + 1
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "}":
            return position
        position += 1
    raise _bad(text, 'a "{" is not closed')


def _unquote(text: str, template: str) -> str:
    if len(text) < 2 or text[-1] != text[0]:
        raise _bad(template, f"the text {text} does not end")
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(r"\\(.)", lambda found: escapes.get(found[1], found[1]), text[1:-1])


def _parse_path(text: str, template: str) -> list[Step]:
    steps: list[Step] = []
    position = 0
    while position < len(text):
        character = text[position]
        if character == "$" and position == 0:
            steps.append(lambda value, root: iter((root,)))
            position += 1
        elif character == "@" and position == 0:
            position += 1
        elif text.startswith("..", position):
            position += 2
            name = _NAME.match(text, position)
            if name is not None:
                steps.append(_descend(_plain(name[0])))
                position = name.end()
            elif text.startswith("*", position):
                steps.append(lambda value, root: _everything(value))
                position += 1
            else:
                steps.append(lambda value, root: iter((value, *_everything(value))))
        elif character == ".":
            position += 1
            if text.startswith("*", position):
                steps.append(_wildcard)
                position += 1
            elif name := _NAME.match(text, position):
                steps.append(_field(_plain(name[0])))
                position = name.end()
            elif position < len(text) and text[position] != "[":
                raise _bad(template, f'a name is expected after "{text[:position]}"')
        elif character == "[":
            end = _closing_bracket(text, position, template)
            steps.append(_bracket(text[position + 1 : end].strip(), template))
            position = end + 1
        elif position == 0 and (name := _NAME.match(text)):
            steps.append(_field(_plain(name[0])))
            position = name.end()
        else:
            raise _bad(template, f'"{text[position:]}" is not understood')
    return steps


def _plain(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name)


def _closing_bracket(text: str, start: int, template: str) -> int:
    depth, quote = 0, ""
    for position in range(start, len(text)):
        character = text[position]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "[":
            depth += 1
        elif character == "]":
            depth -= 1
            if depth == 0:
                return position
    raise _bad(template, 'a "[" is not closed')


def _bracket(inner: str, template: str) -> Step:
    if inner == "*":
        return _wildcard
    if inner.startswith("?(") and inner.endswith(")"):
        return _filter(inner[2:-1].strip(), template)
    choices = [_choice(one.strip(), template) for one in re.split(r",(?=(?:[^']*'[^']*')*[^']*$)", inner)]
    return choices[0] if len(choices) == 1 else _union(choices)


def _choice(text: str, template: str) -> Step:
    if text[:1] in ("'", '"'):
        return _field(_unquote(text, template))
    if re.fullmatch(r"-?\d+", text):
        return _index(int(text))
    if re.fullmatch(r"-?\d*:-?\d*(:\d*)?", text):
        bounds = [int(one) if one else None for one in text.split(":")]
        return _slice(slice(*bounds))
    raise _bad(template, f'"[{text}]" is neither a number, a slice, a quoted name nor a filter')


def _field(name: str) -> Step:
    def step(value: Any, root: Any) -> Iterator[Any]:
        if isinstance(value, Mapping) and name in value:
            yield value[name]

    return step


def _wildcard(value: Any, root: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _everything(value: Any) -> Iterator[Any]:
    for one in _wildcard(value, None):
        yield one
        yield from _everything(one)


def _descend(name: str) -> Step:
    def step(value: Any, root: Any) -> Iterator[Any]:
        for one in (value, *_everything(value)):
            if isinstance(one, Mapping) and name in one:
                yield one[name]

    return step


def _index(number: int) -> Step:
    def step(value: Any, root: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= number < len(value):
            yield value[number]

    return step


def _slice(part: slice) -> Step:
    def step(value: Any, root: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from value[part]

    return step


def _union(choices: Sequence[Step]) -> Step:
    def step(value: Any, root: Any) -> Iterator[Any]:
        for choice in choices:
            yield from choice(value, root)

    return step


def _filter(text: str, template: str) -> Step:
    parts = _COMPARE.split(text, maxsplit=1)
    if len(parts) == 1:
        path = _parse_path(text, template)
        return lambda value, root: (
            one for one in _wildcard(value, root) if next(iter(_walk(path, one, root)), None) is not None
        )
    left, operator, right = _operand(parts[0], template), parts[1], _operand(parts[2], template)

    def step(value: Any, root: Any) -> Iterator[Any]:
        for one in _wildcard(value, root):
            if any(_compares(a, operator, b) for a in left(one, root) for b in right(one, root)):
                yield one

    return step


def _operand(text: str, template: str) -> Step:
    text = text.strip()
    if text.startswith(("@", "$", ".")):
        path = _parse_path(text, template)
        return lambda value, root: _walk(path, value, root)
    if text[:1] in ("'", '"'):
        constant: Any = _unquote(text, template)
    else:
        try:
            constant = json.loads(text)
        except ValueError:
            raise _bad(template, f'"{text}" in the filter is neither a path, a number nor a quoted text') from None
    return lambda value, root: iter((constant,))


def _compares(left: Any, operator: str, right: Any) -> bool:
    if operator == "==":
        return bool(left == right)
    if operator == "!=":
        return bool(left != right)
    try:
        return bool({"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator])
    except TypeError:
        return False


def _bad(template: str, why: str) -> CommandFailed:
    return CommandFailed(f"cannot understand the JSONPath {template}: {why}", 2)
