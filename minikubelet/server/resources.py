"""Which resources are served, under which names: what routing, discovery and lists have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource of the core group."""

    name: str
    kind: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[tuple[str, str, tuple[str, ...]], ...] = ()  # name, kind, verbs

    @property
    def singular(self) -> str:
        """Return the name for one."""
        return self.kind.lower()


VERBS: Final = ("get", "list", "watch")

RESOURCES: Final[dict[str, Resource]] = {
    one.name: one
    for one in (
        Resource(name="configmaps", kind="ConfigMap", namespaced=True, short_names=("cm",)),
        Resource(name="events", kind="Event", namespaced=True, short_names=("ev",)),
        Resource(name="namespaces", kind="Namespace", namespaced=False, short_names=("ns",)),
        Resource(name="nodes", kind="Node", namespaced=False, short_names=("no",)),
        Resource(
            name="pods",
            kind="Pod",
            namespaced=True,
            short_names=("po",),
            categories=("all",),
            subresources=(
                ("attach", "PodAttachOptions", ("create", "get")),
                ("exec", "PodExecOptions", ("create", "get")),
                ("log", "Pod", ("get",)),
                ("portforward", "PodPortForwardOptions", ("create", "get")),
                ("status", "Pod", ("get",)),
            ),
        ),
        Resource(name="secrets", kind="Secret", namespaced=True),
    )
}
