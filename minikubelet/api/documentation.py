"""What the fields of manifests mean: documentation.txt, found by type and field, and paths through the types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import msgspec

from minikubelet.api.field_types import Field, FieldType, struct_fields
from minikubelet.api.hints import likely_name
from minikubelet.api.support import Entry, support_of
from minikubelet.api.types import ConfigMap, Pod, Secret

KINDS: Final[dict[str, type[msgspec.Struct]]] = {"Pod": Pod, "ConfigMap": ConfigMap, "Secret": Secret}
# As kubectl has them: plural, short, without capitals.
_RESOURCES: Final = {"pods": "Pod", "po": "Pod", "configmaps": "ConfigMap", "cm": "ConfigMap", "secrets": "Secret"}


class UnknownPath(Exception):
    """There is no such kind or field; the text says so and names the likely one."""


@dataclass(frozen=True, slots=True)
class Documented:
    """A kind or one of its fields. `struct` has the fields below, if there are any."""

    kind: str
    path: tuple[str, ...]
    field: Field | None
    owner: type[msgspec.Struct]
    struct: type[msgspec.Struct] | None

    @property
    def description(self) -> str:
        """Return the sentence on what it means."""
        if self.field is None:
            return _KIND_SENTENCES[self.kind]
        return description(self.owner, self.path[-1])

    @property
    def entry(self) -> Entry:
        """Return how far it is honoured."""
        return support_of(self.owner, self.path[-1]) if self.path else support_of(self.owner, "")


_KIND_SENTENCES: Final = {
    "Pod": "A group of containers that share a network address, volumes and fate.",
    "ConfigMap": "Settings as keys and values, for variables and files of the pods in its namespace.",
    "Secret": "As a ConfigMap, for what must stay secret: kept in memory, never shown.",
}


@cache
def _sentences() -> dict[str, dict[str, str]]:
    text = resources.files("minikubelet.api").joinpath("documentation.txt").read_text(encoding="utf-8")
    sections: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            name, _, sentence = line.partition(": ")
            section[name] = sentence
    return sections


def description(kind: type[msgspec.Struct], name: str) -> str:
    """Return the sentence on a type's field."""
    for section in (*(one.__name__ for one in kind.__mro__), "*"):
        sentences = _sentences().get(section, {})
        if name in sentences:
            return sentences[name]
        if "*" in sentences and section in (kind.__name__, "*") and kind.__mro__[1].__name__ == "Object":
            return sentences["*"]
    return _sentences()["*"]["*"]


def documented_types() -> frozenset[str]:
    """Return the names of the types that have sentences of their own."""
    return frozenset(_sentences()) - {"*"}


def struct_of(kind: FieldType) -> type[msgspec.Struct] | None:
    """Return the struct that a field holds, itself or in a list or map."""
    while kind.item is not None:
        kind = kind.item
    return kind.base if isinstance(kind.base, type) and issubclass(kind.base, msgspec.Struct) else None


def every_struct() -> Iterator[type[msgspec.Struct]]:
    """Yield the types of all documents and of everything below them, each once."""
    seen: set[type[msgspec.Struct]] = set()
    queue: list[type[msgspec.Struct]] = list(KINDS.values())
    while queue:
        kind = queue.pop()
        if kind not in seen:
            seen.add(kind)
            yield kind
            below = (struct_of(one.type) for one in struct_fields(kind).values())
            queue.extend(one for one in below if one is not None)


def type_name(kind: FieldType) -> str:
    """Return a field's type as kubectl explain names it."""
    if kind.item is not None:
        return ("[]" if kind.base is list else "map[string]") + type_name(kind.item)
    struct = struct_of(kind)
    if struct is not None:
        return struct.__name__
    named = {"quantity": "Quantity", "time": "Time", "base64": "base64", "int-or-string": "IntOrString"}
    plain = {str: "string", int: "integer", bool: "boolean"}
    return named.get(kind.kind) or plain.get(kind.base, "Object")


def find(path: str) -> Documented:
    """Return what a path like `pod.spec.containers.image` leads to; indexes in it are passed over.

    Raises:
        UnknownPath: It leads nowhere.
    """
    first, *rest = [part.partition("[")[0] for part in path.strip(".").split(".")]
    names = {**_RESOURCES, **{one.lower(): one for one in KINDS}}
    kind = names.get(first.lower())
    if kind is None:
        if first in struct_fields(Pod):
            raise UnknownPath(f'cannot explain "{path}": it begins with no kind; did you mean "pod.{path}"?')
        meant = likely_name(first, names)
        hint = f'; did you mean "{meant}"?' if meant else ": there are pod, configmap and secret"
        raise UnknownPath(f'cannot explain "{path}": there is no kind "{first}"{hint}')
    found = Documented(kind, (), None, KINDS[kind], KINDS[kind])
    for name in rest:
        found = _below(found, name, path)
    return found


def _below(above: Documented, name: str, path: str) -> Documented:
    where = ".".join((above.kind.lower(), *above.path))
    fields = struct_fields(above.struct) if above.struct is not None else {}
    field = fields.get(name)
    if field is None or above.struct is None:
        meant = likely_name(name, fields)
        hint = f'; did you mean "{where}.{meant}"?' if meant else ""
        raise UnknownPath(f'cannot explain "{path}": field "{name}" does not exist in {where}{hint}')
    return Documented(above.kind, (*above.path, name), field, above.struct, struct_of(field.type))


def fields_below(found: Documented) -> Iterator[Documented]:
    """Yield the fields of what was found, in alphabetical order."""
    for name in sorted(struct_fields(found.struct)) if found.struct is not None else ():
        yield _below(found, name, "")
