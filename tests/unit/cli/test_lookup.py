"""Pods and containers by what people call them."""

from __future__ import annotations

import pytest

from minikubelet.cli import lookup
from minikubelet.cli.main import CommandFailed


def pod(name, namespace="default", containers=("main",), **meta):
    return {
        "metadata": {"name": name, "namespace": namespace, **meta},
        "spec": {
            "nodeName": "N1",
            "containers": [{"name": one} for one in containers],
            "initContainers": [{"name": "setup"}],
        },
    }


PODS = [pod("web-n1"), pod("web-n1-n1"), pod("db-n1"), pod("db-n1", "other")]


@pytest.mark.parametrize(
    ("name", "namespace", "found"),
    [
        ("db", "default", "db-n1"),
        ("db-n1", "default", "db-n1"),
        ("web", "default", "web-n1"),
        # The full name goes first: "web-n1" is also the manifest's name of another pod.
        ("web-n1", "default", "web-n1"),
        ("web-n1-n1", "default", "web-n1-n1"),
    ],
)
def test_choose(name, namespace, found):
    there = [one for one in PODS if one["metadata"]["namespace"] == namespace]
    assert lookup.choose(there, name, namespace)["metadata"]["name"] == found


def test_ambiguous_names_are_listed():
    with pytest.raises(CommandFailed, match='"db" is more than one pod: default/db-n1, other/db-n1; say which with -n'):
        lookup.choose(PODS, "db", "")


@pytest.mark.parametrize(
    ("name", "pods", "hint"),
    [
        ("wbe", PODS[:1], ", did you mean web-n1?"),
        ("zzz", PODS[:1], "; 'minikubelet get pods -n default' lists the pods in namespace default"),
        ("db", [], "; it is in another namespace: add -n default"),
    ],
)
def test_missing_pods_come_with_the_next_step(name, pods, hint):
    with pytest.raises(CommandFailed) as failure:
        lookup.choose(pods, name, "default", lambda: PODS)
    assert str(failure.value) == f'Error from server (NotFound): pods "{name}" not found{hint}'


def test_no_pods_at_all():
    with pytest.raises(
        CommandFailed,
        match="there are no pods: put a manifest into the manifest directory, or uncordon the node if it is drained",
    ):
        lookup.choose([], "web", "default", list)


def test_default_container(capsys):
    two = pod("web-n1", containers=("main", "side"))
    assert lookup.default_container(two, "") == "main"
    assert 'Defaulted container "main" out of: main, setup (init), side' in capsys.readouterr().err
    assert lookup.default_container(two, "side") == "side"
    chosen = pod("web-n1", containers=("main", "side"), annotations={lookup.DEFAULT_CONTAINER: "side"})
    assert lookup.default_container(chosen, "") == "side"
    with pytest.raises(
        CommandFailed, match="container x is not valid for pod web-n1; its containers are: setup main side"
    ):
        lookup.default_container(two, "x")
