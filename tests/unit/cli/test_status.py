"""The page on everything stays a page, however much is wrong; without a daemon it says where it looked."""

from __future__ import annotations

import json

import pytest

from minikubelet.cli.main import main


@pytest.fixture
def roots(tmp_path, monkeypatch):
    for name in ("config", "state", "run", "log"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"MINIKUBELET_{name.upper()}_DIR", str(tmp_path / name))
    return tmp_path


def test_many_sick_pods_are_counted(roots, capsys):
    (roots / "run" / "status").mkdir()
    for number in range(50):
        pod = {
            "metadata": {"name": f"p{number:02}-n1", "namespace": "default", "uid": f"u{number}"},
            "spec": {"nodeName": "n1", "containers": [{"name": "main"}]},
            "status": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."},
        }
        (roots / "run" / "status" / f"default_p{number:02}-n1.json").write_text(json.dumps(pod))
    assert main(["status"]) == 1
    said = capsys.readouterr().out
    assert said.count("Evicted: p") == 20
    assert "and 30 more pods that are not well: 'minikubelet get pods -A'" in said
    assert "Pods       50: 50 Evicted" in said


def test_without_a_daemon_it_says_where_things_would_be(roots, capsys):
    assert main(["status"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Daemon     cannot talk to the daemon: nothing listens on")
    assert f"Socket     {roots}/run/minikubelet.sock" in lines
    assert f"Config     {roots}/config/config.yaml (not there: defaults)" in lines
    assert f"Logs       {roots}/log/pods" in lines
    assert f"Manifests  {roots}/config/manifests: 0 files" in lines
