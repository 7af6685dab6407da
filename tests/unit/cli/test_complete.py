"""What the last word of a command line could become: pure but for the pods, which the test gives."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikubelet.cli import client
from minikubelet.cli.complete import DIRECTORIES, FILES, complete, take_apart
from minikubelet.cli.main import CommandFailed, verb_parser, verbs


def pod(name, namespace="default", containers=("main",), phase="Running"):
    return {
        "metadata": {"name": f"{name}-n1", "namespace": namespace},
        "spec": {
            "nodeName": "n1",
            "containers": [{"name": one, "ports": [{"containerPort": 80}]} for one in containers],
        },
        "status": {"phase": phase},
    }


PODS = [pod("web", containers=("server", "helper")), pod("db"), pod("away", namespace="elsewhere", containers=("far",))]


@pytest.fixture(autouse=True)
def pods(monkeypatch):
    asked = []

    def fake(options: argparse.Namespace, namespace: str, *_: str):
        asked.append(options)
        return [one for one in PODS if namespace in ("", one["metadata"]["namespace"])]

    monkeypatch.setattr(client, "pods", fake)
    return asked


def values(*words):
    return [value for value, _ in complete(words)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["timel"], ["timeline"]),
        (["nonsense", ""], []),
        (["help", "wa"], ["wait"]),
        (["logs", ""], ["away", "db", "web"]),
        (["logs", "-n", "elsewhere", ""], ["away"]),
        (["-n", "elsewhere", "logs", ""], ["away"]),
        (["--namespace=elsewhere", "logs", ""], ["away"]),
        (["logs", "pod/w"], ["pod/web"]),
        (["logs", "web/"], ["web/helper", "web/server"]),
        (["logs", "web", "-c", ""], ["helper", "server"]),
        (["logs", "web", "--container=h"], ["--container=helper"]),
        (["exec", "-it", "w"], ["web"]),
        (["exec", "-itc", ""], ["far", "helper", "main", "server"]),
        (["exec", "web", "--", "l"], [FILES]),
        (["get", "p"], ["pods"]),
        (["get", "pods", "d"], ["db"]),
        (["get", "pods", "db", "w"], ["web"]),
        (["get", "pod/d"], ["pod/db"]),
        (["describe", ""], ["pods", "nodes"]),
        (["get", "-n", ""], ["default", "elsewhere"]),
        (["-n", ""], ["default", "elsewhere"]),
        (["-n"], ["-n"]),
        (["--run"], ["--run-dir"]),
        (["--run-dir="], [DIRECTORIES]),
        (["--run-dir", ""], [DIRECTORIES]),
        (["validate", "x"], [FILES]),
        (["validate", "-o", "j"], ["json"]),
        (["cp", "w"], ["web:", FILES]),
        (["port-forward", "web", ""], ["80"]),
        (["top", ""], ["pods", "containers", "node"]),
        (["wait", "--for", "cond"], ["condition=Ready", "condition=Initialized", "condition=ContainersReady"]),
        (["explain", "pod.spec.hostN"], ["pod.spec.hostNetwork"]),
        (["explain", "pod.nonsense."], []),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["logs", "--nonsense", "w"], ["web"]),
        (["logs", "--nonsense="], []),
        (["status", ""], []),
    ],
)
def test_candidates(words, expected):
    assert values(*words) == expected


def test_the_directories_of_the_line_are_asked(pods):
    values("--run-dir=/a", "logs", "")
    values("logs", "--run-dir", "/b", "")
    assert [one.run_dir for one in pods] == ["/a", "/b"]


def test_descriptions():
    assert dict(complete(["logs", "w"])) == {"web": "Running"}
    assert dict(complete(["stat"])) == {"status": verbs()["status"]}
    assert dict(complete(["logs", "--follow"])) == {"--follow": "go on, over restarts, until the pods have ended"}


WORDS = st.one_of(
    st.sampled_from([*verbs(), "--", "-n", "-c", "-it", "--run-dir", "--for=", "pod/", "web", "-o", "pod.spec.", "-"]),
    st.text(max_size=6),
)


@given(st.lists(WORDS, max_size=7))
def test_whatever_the_line_completion_only_adds_to_its_last_word(words):
    try:
        found = list(complete(words))
    except CommandFailed:
        return  # no daemon that could be asked for nodes and the like
    last = words[-1] if words else ""
    assert all(value in (FILES, DIRECTORIES) or value.startswith(last) for value, _ in found)
    assert not any("\n" in value or "\t" in value or "\n" in text for value, text in found)


@given(st.lists(WORDS, max_size=7))
def test_a_line_is_taken_apart_without_losing_places(words):
    line = take_apart(verb_parser("exec"), words, "")
    plain = [one for one in words if not one.startswith("-") or one == "-"]
    assert len(line.places) <= len(plain)
