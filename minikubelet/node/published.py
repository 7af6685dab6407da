"""Publishes what is not a pod or an event: namespaces in use, ConfigMaps, and Secrets without their values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from minikubelet.api.types import ConfigMap, Secret
from minikubelet.lifecycle.status import rfc3339
from minikubelet.node.store import Change, Store

Json = dict[str, Any]

DEFAULT: Final = "default"
# Says on a Secret that what it holds is not told.
WITHHELD: Final = "minikubelet.io/values"
_NAMESPACED: Final = ("pods", "configmaps", "secrets")


class Namespaces:
    """Owner of the published namespaces: `default`, and each that an object lies in."""

    def __init__(self, store: Store, *, clock: Callable[[], float]) -> None:
        """Publish `default` and begin to watch the store; `clock` is Unix time."""
        self._store = store
        self._clock = clock
        self._users: Counter[str] = Counter({DEFAULT: 1})
        self._publish(DEFAULT)
        store.observe(self._on_change)

    def _on_change(self, change: Change) -> None:
        if change.kind not in _NAMESPACED or change.type == "MODIFIED":
            return
        name = change.item.key[0]
        if change.type == "ADDED":
            self._users[name] += 1
            if self._users[name] == 1:
                self._publish(name)
            return
        self._users[name] -= 1
        if self._users[name] <= 0:
            del self._users[name]
            self._store.delete("namespaces", "", name)

    def _publish(self, name: str) -> None:
        value = {
            "kind": "Namespace",
            "apiVersion": "v1",
            "metadata": {
                "name": name,
                "uid": name,
                "creationTimestamp": rfc3339(self._clock()),
                "labels": {"kubernetes.io/metadata.name": name},
            },
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        }
        self._store.put("namespaces", "", name, value)


class PublishedObjects:
    """Owner of the published ConfigMaps and Secrets."""

    def __init__(self, store: Store, *, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[tuple[str, str, str], Json] = {}
        self._created: dict[tuple[str, str, str], str] = {}

    def set(self, config_maps: Sequence[ConfigMap], secrets: Sequence[Secret]) -> None:
        """Make these the published ones; only what differs is published anew."""
        wanted = {_key("configmaps", one): _plain("ConfigMap", one) for one in config_maps}
        wanted |= {_key("secrets", one): _withheld(one) for one in secrets}
        for key in self._known.keys() - wanted.keys():
            del self._known[key], self._created[key]
            self._store.delete(*key)
        for key, value in wanted.items():
            if self._known.get(key) != value:
                self._known[key] = value
                created = self._created.setdefault(key, rfc3339(self._clock()))
                metadata = {"uid": "/".join(key), "creationTimestamp": created} | value["metadata"]
                self._store.put(*key, {**value, "metadata": metadata})


def _key(kind: str, one: ConfigMap | Secret) -> tuple[str, str, str]:
    return kind, one.metadata.namespace or DEFAULT, one.metadata.name


def _plain(kind: str, one: ConfigMap | Secret) -> Json:
    value: Json = msgspec.to_builtins(one)
    value["metadata"]["namespace"] = one.metadata.namespace or DEFAULT
    return {**value, "kind": kind, "apiVersion": "v1"}


def _withheld(secret: Secret) -> Json:
    """Return a Secret with its keys and no values: whoever may read them reads the manifest."""
    value = _plain("Secret", secret)
    keys = {*(secret.data or {}), *(secret.string_data or {})}
    value.pop("stringData", None)
    value["data"] = dict.fromkeys(sorted(keys), "")
    annotations = {
        key: text
        for key, text in (value["metadata"].get("annotations") or {}).items()
        if not key.endswith("last-applied-configuration")  # repeats the values
    }
    value["metadata"]["annotations"] = {**annotations, WITHHELD: "withheld"}
    value.setdefault("type", "Opaque")
    return value
