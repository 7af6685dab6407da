"""Finds pods by what people call them: the name in their manifest, or their full name with the node's behind it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from minikubelet.cli import client
from minikubelet.cli.arguments import split_kind
from minikubelet.cli.main import CommandFailed

Json = dict[str, Any]

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


def manifest_name(pod: Json) -> str:
    """Return a pod's name as its manifest has it."""
    name: str = pod["metadata"]["name"]
    node = str(pod.get("spec", {}).get("nodeName", "")).lower()
    return name.removesuffix(f"-{node}") if node else name


def find_pod(options: argparse.Namespace, namespace: str, name: str) -> Json:
    """Return the one pod of this name; namespace "" means any. Raises CommandFailed with likely names."""
    return choose(client.pods(options, namespace), split_kind(name), namespace, lambda: client.pods(options, ""))


def choose(pods: Sequence[Json], name: str, namespace: str, elsewhere: Any = None) -> Json:
    """Return the one pod of this name among pods.

    Args:
        pods: Where to look.
        name: A full name, which goes first, or a manifest's.
        namespace: For the message.
        elsewhere: Gives the pods of all namespaces, to say where it is instead.

    Raises:
        CommandFailed: There is none, or several; the text names the next step.
    """
    for fits in (_has_full_name, _has_manifest_name):
        found = [one for one in pods if fits(one, name)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in found)
            raise CommandFailed(f'"{name}" is more than one pod: {names}; say which with -n NAMESPACE or the full name')
    raise CommandFailed(
        f'Error from server (NotFound): pods "{name}" not found{_hint(pods, name, namespace, elsewhere)}'
    )


def _has_full_name(pod: Json, name: str) -> bool:
    return bool(pod["metadata"]["name"] == name)


def _has_manifest_name(pod: Json, name: str) -> bool:
    return manifest_name(pod) == name


def _hint(pods: Sequence[Json], name: str, namespace: str, elsewhere: Any) -> str:
    others = elsewhere() if elsewhere is not None and namespace else []
    for one in others:
        if name in (one["metadata"]["name"], manifest_name(one)):
            return f"; it is in another namespace: add -n {one['metadata']['namespace']}"
    from difflib import get_close_matches

    names = {word: one["metadata"]["name"] for one in pods for word in (manifest_name(one), one["metadata"]["name"])}
    close = list(dict.fromkeys(names[word] for word in get_close_matches(name, names, n=3)))
    if close:
        return f", did you mean {' or '.join(close)}?"
    if not pods and not others:
        return "; there are no pods: put a manifest into the manifest directory, or uncordon the node if it is drained"
    where = f" in namespace {namespace}" if namespace else ""
    return f"; 'minikubelet get pods{f' -n {namespace}' if namespace else ' -A'}' lists the pods{where}"


def container_names(pod: Json) -> list[str]:
    """Return the names of a pod's containers: init containers first, in the order of the spec."""
    return [one["name"] for one in _containers(pod)]


def _containers(pod: Json) -> list[Json]:
    spec = pod["spec"]
    return [*(spec.get("initContainers") or ()), *spec["containers"], *(spec.get("ephemeralContainers") or ())]


def choose_container(pod: Json, name: str) -> str:
    """Return the named container, or the one that kubectl takes when none is named. Raises CommandFailed."""
    known = container_names(pod)
    own = pod["metadata"]["name"]
    if name:
        if name in known:
            return name
        raise CommandFailed(f"container {name} is not valid for pod {own}; its containers are: {' '.join(known)}")
    wanted = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    first: str = pod["spec"]["containers"][0]["name"]
    return wanted if wanted in known else first


def default_container(pod: Json, name: str, *, quiet: bool = False) -> str:
    """Return the container that a verb works on, and tell which one that is when there was a choice."""
    names = container_names(pod)
    chosen = choose_container(pod, name)
    if name or quiet or len(names) < 2 or DEFAULT_CONTAINER in (pod["metadata"].get("annotations") or {}):
        return chosen
    inits = {one["name"] for one in pod["spec"].get("initContainers") or ()}
    others = [f"{one} (init)" if one in inits else one for one in names if one != chosen]
    client.tell_once(f'Defaulted container "{chosen}" out of: {", ".join([chosen, *others])}')
    return chosen


def container_spec(pod: Json, name: str) -> Json:
    """Return a container of a pod's spec, empty when there is none of this name."""
    return next((one for one in _containers(pod) if one["name"] == name), {})


def container_status(pod: Json, name: str) -> Json:
    """Return a container's status, empty when there is none yet."""
    status = pod.get("status", {})
    for group in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for one in status.get(group) or ():
            if one["name"] == name:
                found: Json = one
                return found
    return {}
