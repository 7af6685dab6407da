"""The ConfigMaps and Secrets that pods may use."""

from __future__ import annotations

from collections.abc import Sequence

from minikubelet.api.types import ConfigMap, Secret


class NodeObjects:
    """The ConfigMaps and Secrets of the manifest directory."""

    def __init__(self) -> None:
        self._config_maps: dict[tuple[str, str], ConfigMap] = {}
        self._secrets: dict[tuple[str, str], Secret] = {}

    def set(self, config_maps: Sequence[ConfigMap], secrets: Sequence[Secret]) -> bool:
        """Replace all objects; True when something differs."""
        maps = {(one.metadata.namespace or "default", one.metadata.name): one for one in config_maps}
        hidden = {(one.metadata.namespace or "default", one.metadata.name): one for one in secrets}
        changed = maps != self._config_maps or hidden != self._secrets
        self._config_maps, self._secrets = maps, hidden
        return changed

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        """Return the named ConfigMap, or None."""
        return self._config_maps.get((namespace, name))

    def secret(self, namespace: str, name: str) -> Secret | None:
        """Return the named Secret, or None."""
        return self._secrets.get((namespace, name))
