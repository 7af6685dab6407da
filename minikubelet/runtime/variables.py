"""The environment that a Pod asks for, and the texts of the downward API.

Source: kubelet kubelet_pods.go `makeEnvironmentVariables`, pkg/fieldpath, pkg/api/v1/resource (v1.36).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from typing import Final

from minikubelet.api.expansion import expand
from minikubelet.api.field_errors import quote
from minikubelet.api.quantity import parse_quantity
from minikubelet.api.types import (
    Container,
    DownwardAPIVolumeFile,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    Pod,
    ResourceFieldSelector,
)
from minikubelet.lifecycle.pods import all_containers
from minikubelet.linux import libc
from minikubelet.runtime.launch import CONFIG_ERROR
from minikubelet.runtime.port import ContainerFailure
from minikubelet.runtime.volumes.payload import Objects, PayloadError, secret_bytes

_SUBSCRIPT: Final = re.compile(r"(metadata\.(?:labels|annotations))\['(.*)'\]")
# What a container without a limit of its own may use is all that pods may.
_NODE_RESOURCES: Final = ("cpu", "memory", "ephemeral-storage")
_MAX_ENV_FILE_BYTES: Final = 64 * 1024
_ENV_FILE_LINE: Final = re.compile(r"\s*(?:#[^\n]*)?(?:\n|$)|([^=\n]+)='([^']*)'[ \t]*(?:\n|$)")


class Variables:
    """Works out environments from pods, the node's objects and its addresses."""

    def __init__(
        self,
        objects: Objects,
        *,
        pod_ips: Callable[[Pod], tuple[str, ...]],
        host_ips: Callable[[], tuple[str, ...]],
        allocatable: Mapping[str, str],
        volume_path: Callable[[Pod, str], str],
    ) -> None:
        self._objects = objects
        self._pod_ips = pod_ips
        self._host_ips = host_ips
        self._allocatable = allocatable
        self._volume_path = volume_path

    def environment(self, pod: Pod, container: Container) -> dict[str, str]:
        """Return a container's variables. Raises ContainerFailure with the kubelet's message."""
        result: dict[str, str] = {}
        for source in container.env_from or ():
            result.update(self._from(pod, source))
        for variable in container.env or ():
            value = self._value(pod, container, variable, result)
            if value is not None:
                result[variable.name] = value
        for name, value in result.items():
            # The text is never shown: it may be a secret.
            if "\0" in value:
                raise ContainerFailure(CONFIG_ERROR, f"environment variable {name!r} contains a NUL byte")
        return result

    def _from(self, pod: Pod, source: EnvFromSource) -> dict[str, str]:
        namespace = pod.metadata.namespace
        found: dict[str, str] = {}
        if source.config_map_ref is not None:
            reference = source.config_map_ref
            config_map = self._objects.config_map(namespace, reference.name)
            if config_map is None and not reference.optional:
                raise ContainerFailure(CONFIG_ERROR, f'configmap "{reference.name}" not found')
            found = dict(config_map.data or {}) if config_map is not None else {}
        elif source.secret_ref is not None:
            secret_reference = source.secret_ref
            secret = self._objects.secret(namespace, secret_reference.name)
            if secret is None and not secret_reference.optional:
                raise ContainerFailure(CONFIG_ERROR, f'secret "{secret_reference.name}" not found')
            found = {key: _text(key, data) for key, data in secret_bytes(secret).items()} if secret else {}
        return {source.prefix + key: value for key, value in found.items()}

    def _value(self, pod: Pod, container: Container, variable: EnvVar, known: Mapping[str, str]) -> str | None:
        """Return a variable's value, None when an optional source has none."""
        source = variable.value_from
        if source is None:
            return expand(variable.value, known)
        if source.field_ref is not None:
            return self.field(pod, source.field_ref.field_path)
        if source.resource_field_ref is not None:
            return self.resource(pod, source.resource_field_ref, container)
        return self._referenced(pod, source)

    def _referenced(self, pod: Pod, source: EnvVarSource) -> str | None:
        namespace = pod.metadata.namespace
        if source.config_map_key_ref is not None:
            reference = source.config_map_key_ref
            config_map = self._objects.config_map(namespace, reference.name)
            if config_map is None:
                return self._missing(reference.optional, f'configmap "{reference.name}" not found')
            text = (config_map.data or {}).get(reference.key)
            if text is None:
                what = f"couldn't find key {reference.key} in ConfigMap {namespace}/{reference.name}"
                return self._missing(reference.optional, what)
            return text
        if source.secret_key_ref is not None:
            wanted = source.secret_key_ref
            secret = self._objects.secret(namespace, wanted.name)
            if secret is None:
                return self._missing(wanted.optional, f'secret "{wanted.name}" not found')
            data = secret_bytes(secret).get(wanted.key)
            if data is None:
                what = f"couldn't find key {wanted.key} in Secret {namespace}/{wanted.name}"
                return self._missing(wanted.optional, what)
            return _text(wanted.key, data)
        if source.file_key_ref is not None:
            one = source.file_key_ref
            value = read_env_file(self._volume_path(pod, one.volume_name), one.path).get(one.key, "")
            if not value:
                return self._missing(
                    one.optional, f'environment variable key "{one.key}" not found in file "{one.path}"'
                )
            return value
        return ""

    def _missing(self, optional: bool | None, message: str) -> str | None:
        if not optional:
            raise ContainerFailure(CONFIG_ERROR, message)
        return None

    def downward(self, pod: Pod, item: DownwardAPIVolumeFile) -> str:
        """Return the text of one downward API file. Raises PayloadError."""
        try:
            if item.field_ref is not None:
                return self.field(pod, item.field_ref.field_path)
            if item.resource_field_ref is not None:
                return self.resource(pod, item.resource_field_ref, pod.spec.containers[0])
        except ContainerFailure as failure:
            raise PayloadError(failure.message) from failure
        return ""

    def field(self, pod: Pod, path: str) -> str:
        """Return the text of a field of the Pod."""
        meta = pod.metadata
        subscript = _SUBSCRIPT.fullmatch(path)
        if subscript is not None:
            entries = meta.labels if subscript[1] == "metadata.labels" else meta.annotations
            return (entries or {}).get(subscript[2], "")
        simple: dict[str, Callable[[], str]] = {
            "metadata.name": lambda: meta.name,
            "metadata.namespace": lambda: meta.namespace,
            "metadata.uid": lambda: meta.uid,
            "metadata.labels": lambda: format_map(meta.labels or {}),
            "metadata.annotations": lambda: format_map(meta.annotations or {}),
            "spec.nodeName": lambda: pod.spec.node_name,
            "spec.host": lambda: pod.spec.node_name,  # its name in the first version of the API
            "spec.serviceAccountName": lambda: pod.spec.service_account_name,
            "status.hostIP": lambda: ",".join(self._host_ips()[:1]),
            "status.hostIPs": lambda: ",".join(self._host_ips()),
            "status.podIP": lambda: ",".join(self._pod_ips(pod)[:1]),
            "status.podIPs": lambda: ",".join(self._pod_ips(pod)),
        }
        if path not in simple:
            raise ContainerFailure(CONFIG_ERROR, f"unsupported fieldPath: {path}")
        return simple[path]()

    def resource(self, pod: Pod, selector: ResourceFieldSelector, container: Container) -> str:
        """Return ceil(value / divisor) of a container's limit or request."""
        if selector.container_name:
            container = _named(pod, selector.container_name)
        which, _, name = selector.resource.partition(".")
        resources = container.resources
        if which == "limits":
            # A container without a limit, or with one of nought, may use what its pod may, and without that what the
            # node has.
            level = (pod.spec.resources.limits if pod.spec.resources is not None else None) or {}
            node = self._allocatable.get(name, "0") if name in _NODE_RESOURCES else "0"
            every = ((resources.limits or {}).get(name), level.get(name), node)
            text = next((one for one in every if one and parse_quantity(one).nanos), "0")
        else:
            text = (resources.requests or {}).get(name, "0")
        divisor = parse_quantity(selector.divisor or "0").nanos or 10**9
        return str(-(-parse_quantity(text).nanos // divisor))


def _named(pod: Pod, name: str) -> Container:
    for one in all_containers(pod):
        if one.name == name:
            return one
    raise ContainerFailure(CONFIG_ERROR, f"container {name} not found")


def format_map(entries: Mapping[str, str]) -> str:
    """Return labels or annotations as the downward API prints them: sorted, quoted as in Go, one a line."""
    return "\n".join(f"{key}={quote(value)}" for key, value in sorted(entries.items()))


def _text(key: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ContainerFailure(CONFIG_ERROR, f'value of key "{key}" is not UTF-8 and cannot be a variable') from error


def read_env_file(volume: str, path: str) -> dict[str, str]:
    """Return the variables of an env file: `NAME='value'` lines, values in single quotes, perhaps over several lines.

    Args:
        volume: Directory of the volume, which containers write.
        path: The file in it.

    Raises:
        ContainerFailure: The file is missing, leads out of the volume, is no plain file, too large or of another form.
    """
    text = _read_beneath(volume, path)
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _ENV_FILE_LINE.match(text, position)
        if match is None:
            line = text.count("\n", 0, position) + 1
            message = f'couldn\'t parse env file "{path}": invalid environment variable format at line {line}'
            raise ContainerFailure(CONFIG_ERROR, message)
        if match[1]:
            found[match[1].strip()] = match[2]
        position = match.end() if match.end() > position else position + 1
    return found


def _read_beneath(volume: str, path: str) -> str:
    """Read a file that a container made: links may not lead out of the volume, and a pipe must not hold us up."""
    try:
        top = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            descriptor = libc.openat2(top, path, os.O_RDONLY | os.O_NONBLOCK, libc.RESOLVE_IN_ROOT)
        finally:
            os.close(top)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ContainerFailure(CONFIG_ERROR, f'couldn\'t parse env file "{path}": not a regular file')
            data = file.read(_MAX_ENV_FILE_BYTES + 1)
    except OSError as error:
        message = f'couldn\'t parse env file "{path}": {os.strerror(error.errno or 0).lower()}'
        raise ContainerFailure(CONFIG_ERROR, message) from error
    if len(data) > _MAX_ENV_FILE_BYTES:
        message = f'couldn\'t parse env file "{path}": larger than {_MAX_ENV_FILE_BYTES} bytes'
        raise ContainerFailure(CONFIG_ERROR, message)
    return _text(path, data)
