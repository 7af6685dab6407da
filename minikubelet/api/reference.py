"""docs/reference/manifest.md, made from the types, their documentation and what is honoured.

Run `python -m minikubelet.api.reference docs/reference/manifest.md` after a change of any of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

import msgspec

from minikubelet.api.documentation import KINDS, description, documented_types, struct_of, type_name
from minikubelet.api.field_types import struct_fields
from minikubelet.api.support import HONOURED, Entry, Support, support_of

_INTRODUCTION: Final = """\
# Manifests: every field, and whether it is honoured

Made by `python -m minikubelet.api.reference`; `minikubelet explain pod.spec` shows the same on a terminal.

Three things can be said of a field:

- **honoured**: it does here what it does in Kubernetes;
- **no action**: it is checked and accepted, and the kubelet does nothing with it for a static pod either;
- **not honoured**: it is checked and accepted, and this node does not do what it asks for. `minikubelet validate` warns
  of it, and so does the pod's first event, `FieldNotHonoured`.

Fields that are not listed are unknown: they are passed over with a warning that names the likely spelling.
"""


def manifest_reference() -> str:
    """Return the reference as Markdown."""
    sections = [_INTRODUCTION]
    for kind in _types():
        sections.append("\n".join(_section(kind)))
    return "\n".join(sections)


def _types() -> Iterator[type[msgspec.Struct]]:
    """Yield the types that are documented, each once, from the outside in."""
    documented = documented_types()
    seen: set[str] = set()
    queue: list[type[msgspec.Struct]] = list(KINDS.values())
    while queue:
        kind = queue.pop(0)
        if kind.__name__ in seen or kind.__name__ not in documented:
            continue
        seen.add(kind.__name__)
        yield kind
        below = (struct_of(one.type) for one in struct_fields(kind).values())
        queue.extend(one for one in below if one is not None)


def _section(kind: type[msgspec.Struct]) -> Iterator[str]:
    yield f"## {kind.__name__}"
    yield ""
    yield "| Field | Type | Meaning | Support |"
    yield "|---|---|---|---|"
    for name, field in struct_fields(kind).items():
        shown = type_name(field.type)
        struct = struct_of(field.type)
        if struct is not None and struct.__name__ in documented_types():
            escaped = shown.replace("[", "\\[").replace("]", "\\]")
            shown = f"[{escaped}](#{struct.__name__.lower()})"
        yield f"| `{name}` | {shown} | {description(kind, name)} | {_support(support_of(kind, name))} |"
    yield ""


def _support(entry: Entry) -> str:
    if entry is HONOURED:
        return "honoured"
    said = {Support.HONOURED: "honoured", Support.ACCEPTED: "no action", Support.UNHONOURED: "**not honoured**"}
    some = " for some values" if entry.is_partial else ""
    return f"{said[entry.support]}{some}: {entry.sentence}"


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as output:
        output.write(manifest_reference())
