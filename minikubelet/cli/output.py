"""Prints objects in the forms that scripts ask for with -o; tables are the verbs' own business."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, Final

from minikubelet.cli import terminal
from minikubelet.cli.main import CommandFailed, did_you_mean

Json = dict[str, Any]

_PLAIN: Final = ("json", "yaml", "name", "wide")
_WITH_TEMPLATE: Final = ("jsonpath", "custom-columns")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Declare -o."""
    parser.add_argument(
        "-o",
        "--output",
        default="",
        type=_form,
        metavar="FORM",
        help="wide, json, yaml, name, jsonpath=TEMPLATE or custom-columns=HEADER:PATH,...",
    )


def _form(text: str) -> str:
    name, equals, template = text.partition("=")
    if text in ("", *_PLAIN) or (name in _WITH_TEMPLATE and equals and template):
        return text
    known = [*_PLAIN, *(f"{one}=..." for one in _WITH_TEMPLATE)]
    raise argparse.ArgumentTypeError(f'"{text}" is not one of {", ".join(known)}{did_you_mean(name, _PLAIN)}')


def is_table(form: str) -> bool:
    """Tell whether this form is a table for people."""
    return form in ("", "wide")


def as_list(items: Sequence[Json]) -> Json:
    """Return objects as the List that kubectl prints."""
    return {"apiVersion": "v1", "items": list(items), "kind": "List", "metadata": {"resourceVersion": ""}}


def print_objects(form: str, items: Sequence[Json], *, single: bool, kind: str = "") -> None:
    """Print objects in a form that is no table.

    Args:
        form: As given with -o.
        items: The objects.
        single: One object was asked for by name: print it itself, not a List.
        kind: Of objects that do not tell it, in the singular.
    """
    name, _, template = form.partition("=")
    value: Json = items[0] if single and len(items) == 1 else as_list(items)
    if name == "json":
        print(json.dumps(value, indent=4, ensure_ascii=False))
    elif name == "yaml":
        print(to_yaml(value), end="")
    elif name == "name":
        for one in items:
            print(f"{str(one.get('kind') or kind).lower()}/{one['metadata']['name']}")
    elif name == "jsonpath":
        from minikubelet.cli.jsonpath import Template, relaxed

        text = template if "{" in template else relaxed(template)
        sys.stdout.write(Template(text).render(value))
    else:
        print(terminal.render(custom_columns(template, items)), end="")


def custom_columns(template: str, items: Sequence[Json]) -> list[list[str]]:
    """Return the rows of `HEADER:PATH,...`. Raises CommandFailed."""
    from minikubelet.cli.jsonpath import as_text, find

    columns = [one.partition(":") for one in template.split(",")]
    for header, colon, path in columns:
        if not (header and colon and path):
            raise CommandFailed(f'cannot understand the column "{header}{colon}{path}": use HEADER:.path.in.object', 2)
    rows = [[header for header, _, _ in columns]]
    for one in items:
        rows.append([",".join(as_text(found) for found in find(path, one)) or "<none>" for _, _, path in columns])
    return rows


def to_yaml(value: Any) -> str:
    """Return a value as YAML, texts of several lines as blocks."""
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # a base known at run time
        pass

    def represent(dumper: Any, text: str) -> Any:
        style = "|" if "\n" in text else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, represent)
    text: str = yaml.dump(
        value, Dumper=Dumper, sort_keys=True, default_flow_style=False, allow_unicode=True, width=1000
    )
    return text


def sort_objects(items: Sequence[Any], path: str, object_of: Any = None) -> list[Any]:
    """Return items in the order of the value at a path; numbers by size, texts naturally, missing ones first."""
    from minikubelet.cli.jsonpath import find

    def key(one: Any) -> tuple[int, list[tuple[int, float, str]]]:
        found = find(path, one if object_of is None else object_of(one))
        if not found:
            return (0, [])
        value = found[0]
        if isinstance(value, (int, float)):
            return (1, [(0, float(value), "")])
        return (1, _natural(value if isinstance(value, str) else json.dumps(value)))

    if not any(find(path, one if object_of is None else object_of(one)) for one in items) and items:
        raise CommandFailed(f"cannot sort by {path}: no object has such a field", 2)
    return sorted(items, key=key)


def _natural(text: str) -> list[tuple[int, float, str]]:
    """Return a key by which `web-9` comes before `web-10`."""
    key: list[tuple[int, float, str]] = []
    word = ""
    for character in [*text, ""]:
        if word and (character == "" or character.isdigit() != word[-1].isdigit()):
            key.append((0, float(word), "") if word.isdigit() else (1, 0.0, word))
            word = ""
        word += character
    return key
