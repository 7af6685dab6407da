"""What to do instead of the verbs that people try and that are not here, as pods come from files."""

from __future__ import annotations

from typing import Final

_ADVICE: Final = {
    ("apply", "create", "start", "up"): (
        "a pod is started or changed by its manifest: put the file into {manifests}; "
        "'minikubelet diff FILE' says first what that changes"
    ),
    ("delete", "rm", "remove", "stop", "kill", "down"): (
        "a pod is ended by taking its manifest out of {manifests}; "
        "'minikubelet describe pod POD' names the file, 'minikubelet drain' ends all pods"
    ),
    ("edit", "patch", "replace", "label", "annotate", "set", "scale", "autoscale"): (
        "a pod is changed by editing its manifest in {manifests}; 'minikubelet describe pod POD' names the file"
    ),
    ("restart", "rollout"): (
        "a pod starts anew when its manifest in {manifests} changes, be it an annotation; "
        "'minikubelet describe pod POD' names the file"
    ),
    ("ps", "ls", "list", "pods"): "try 'minikubelet get pods -A'",
    ("inspect", "show", "info"): "try 'minikubelet describe pod POD' or 'minikubelet get pod POD -o yaml'",
    ("sh", "shell", "ssh", "enter"): (
        "try 'minikubelet exec -it POD -- sh' or, with the host's tools, 'minikubelet debug POD'"
    ),
    ("cordon", "taint"): (
        "'minikubelet drain' ends all pods and keeps them from coming back, 'minikubelet uncordon' lets them run again"
    ),
    ("config", "proxy"): "'minikubelet kubeconfig' prints a configuration for kubectl and says which relay it needs",
    ("api-resources",): "'minikubelet get' lists pods, events, nodes, namespaces, configmaps and secrets",
    ("lint", "check"): "try 'minikubelet validate FILE'",
}


def advice(verb: str, manifests: str) -> str:
    """Return what to do instead of a verb, "" when there is nothing to say.

    Args:
        verb: What was typed.
        manifests: The manifest directory.
    """
    found = next((text for words, text in _ADVICE.items() if verb in words), "")
    return found.format(manifests=manifests)
