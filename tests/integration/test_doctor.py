"""`minikubelet doctor` on this machine and on a node with planted troubles."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tests.conftest import Node

pytestmark = pytest.mark.root


def checks(node: Node, code: int) -> dict[str, dict[str, Any]]:
    done = node.cli("doctor", "-o", "json", f"--bridge={node.bridge}")
    assert done.returncode == code, done.stdout + done.stderr
    found = json.loads(done.stdout)["checks"]
    for one in found:
        assert one["result"] in ("ok", "warning", "problem")
        assert bool(one["advice"]) == (one["result"] != "ok"), one
    return {one["check"]: one for one in found}


def test_a_machine_that_runs_pods_has_no_problem(cluster: Node) -> None:
    found = checks(cluster, 0)
    for name in ("root", "kernel", "namespaces", "system calls", "overlay", "bridge", "veth", "state", "run", "log"):
        assert found[name]["result"] == "ok", found[name]
    assert cluster.process is not None
    assert f"running as process {cluster.process.pid}" in found["daemon"]["found"]
    assert found["leftover cgroups"]["found"] == "none"


def test_what_is_wrong_is_said_with_what_to_do(cluster: Node) -> None:
    os.chmod(cluster.run_dir, 0o777)
    os.chmod(cluster.state_dir, 0o755)
    try:
        found = checks(cluster, 1)
        assert found["run"]["result"] == "problem"
        assert f"chmod go-w {cluster.run_dir}" in found["run"]["advice"]
        assert found["state"]["result"] == "warning"
        assert "chmod 700" in found["state"]["advice"]
    finally:
        os.chmod(cluster.run_dir, 0o755)
        os.chmod(cluster.state_dir, 0o700)


def test_text_form_counts_and_marks(cluster: Node) -> None:
    text = cluster.cli("doctor", f"--bridge={cluster.bridge}").stdout.splitlines()
    assert text[0].startswith("ok      minikubelet")
    assert text[-1].endswith("0 problem")
