"""The real kubectl against this API, whichever version the machine has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Node

pytestmark = [
    pytest.mark.root,
    pytest.mark.usefixtures("pods"),
    pytest.mark.skipif(
        shutil.which("kubectl") is None,
        reason="no kubectl on this machine, and not every distribution has a package of it",
    ),
]

_FIRST_WITH_WEB_SOCKETS = (1, 31)
_WEB_SOCKETS = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "true", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "true"}


class Kubectl:
    """Runs kubectl with a home of its own."""

    def __init__(self, port: int, home: Path) -> None:
        self._command = ["kubectl", f"--server=http://127.0.0.1:{port}", f"--cache-dir={home}/cache"]
        self._environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), **_WEB_SOCKETS}

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            [*self._command, *arguments],
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def __call__(self, *arguments: str) -> str:
        """Return what it prints; it must succeed."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def version(self) -> tuple[int, int]:
        """Return its major and minor number."""
        found = json.loads(self("version", "--client", "-o", "json"))["clientVersion"]
        return int(found["major"]), int(re.sub(r"\D.*", "", found["minor"]))


@pytest.fixture(scope="module")
def kubectl(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    yield Kubectl(port, tmp_path_factory.mktemp("kubectl"))


def test_it_lists_and_describes(kubectl: Kubectl) -> None:
    header, *rows = kubectl("get", "pods", "-o", "wide", "--sort-by=.metadata.name").splitlines()
    assert header.split()[:5] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [row.split()[:4] for row in rows] == [
        ["job-n1", "0/1", "Error", "0"],
        ["pair-n1", "2/2", "Running", "0"],
        ["web-n1", "1/1", "Running", "0"],
    ]
    assert kubectl("get", "pods", "-l", "tier=front", "-o", "name").split() == ["pod/web-n1"]
    assert (
        kubectl("get", "pod", "job-n1", "-o", "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}")
        == "4"
    )
    assert json.loads(kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"] == "n1"
    described = kubectl("describe", "pod", "pair-n1")
    assert re.search(r"Status:\s+Running", described)
    assert re.search(r"Normal\s+Started\s.*kubelet\s+(Container started|Started container)", described), described


def test_it_reads_logs_and_waits(kubectl: Kubectl) -> None:
    # The second line comes by another stream than the others, and nothing orders the two.
    assert sorted(kubectl("logs", "web-n1").splitlines()) == ["line1", "line2", "line3"]
    assert sorted(kubectl("logs", "-l", "app=pair", "--all-containers", "--prefix").splitlines()) == [
        "[pod/pair-n1/a] from a",
        "[pod/pair-n1/b] from b",
        "[pod/pair-n1/first] prepared",
    ]
    assert kubectl("wait", "--for=condition=Ready", "pod/web-n1", "--timeout=20s") == "pod/web-n1 condition met\n"


def test_a_change_is_refused_with_the_file_to_edit(kubectl: Kubectl, cluster: Node) -> None:
    done = kubectl.run("delete", "pod", "web-n1")
    assert done.returncode != 0
    assert str(cluster.manifests / "pods.yaml") in done.stderr


def test_it_runs_commands(kubectl: Kubectl, tmp_path: Path) -> None:
    if kubectl.version() < _FIRST_WITH_WEB_SOCKETS:
        done = kubectl.run("exec", "web-n1", "--", "true")
        assert done.returncode != 0 and "SPDY" in done.stderr, "refused, and says why"
        return
    done = kubectl.run("exec", "-i", "web-n1", "--", "sh", "-c", "cat; echo $COLOUR >&2; exit 3", stdin="in\n")
    assert (done.returncode, done.stdout) == (3, "in\n")
    assert done.stderr.startswith("blue\n")
    (tmp_path / "file").write_text("copied\n")
    kubectl("cp", str(tmp_path / "file"), "web-n1:/tmp/file")
    assert kubectl("exec", "web-n1", "--", "cat", "/tmp/file") == "copied\n"
