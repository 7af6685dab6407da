"""Programs that nobody here wrote, as Debian packages them: the examples, run and asked over their pods' addresses."""

from __future__ import annotations

import pwd
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

MANIFESTS = Path(__file__).parents[2] / "manifests"
EXAMPLES = MANIFESTS / "examples"


def ready(pod):
    statuses = pod["status"].get("containerStatuses", [])
    return bool(statuses) and all(one["ready"] for one in statuses)


def status_of(pod, container):
    return next(one for one in pod["status"]["containerStatuses"] if one["name"] == container)


@pytest.mark.parametrize("path", [*MANIFESTS.glob("*.yaml"), *EXAMPLES.glob("*.yaml")], ids=lambda path: path.name)
def test_examples_say_what_to_look_at_and_are_valid_without_a_warning(cluster, path):
    first = path.read_text().split("apiVersion", 1)[0]
    assert "Look at:" in first
    found = cluster.cli("validate", str(path))
    assert (found.returncode, found.stderr) == (0, "")
    assert "warning" not in found.stdout


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_serves_a_config_map_that_changes_live(cluster):
    text = (EXAMPLES / "nginx.yaml").read_text()
    cluster.write("nginx.yaml", text)
    pod = cluster.wait_pod("nginx", ready, "nginx ready")
    url = f"http://{pod['status']['podIP']}/"
    assert urllib.request.urlopen(url).read() == b"first page"
    cluster.write("nginx.yaml", text.replace("first page", "second page"))
    cluster.wait(lambda: urllib.request.urlopen(url).read() == b"second page", "the new page")
    assert cluster.pod("nginx")["metadata"]["uid"] == pod["metadata"]["uid"]
    assert status_of(cluster.pod("nginx"), "nginx")["restartCount"] == 0


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis is not installed")
def test_redis_answers_and_ends_within_its_grace(cluster):
    cluster.write("redis.yaml", (EXAMPLES / "redis.yaml").read_text())
    pod = cluster.wait_pod("redis", ready, "redis ready")
    with socket.create_connection((pod["status"]["podIP"], 6379), timeout=20) as connection:
        connection.sendall(b"SET k v\r\nGET k\r\n")
        answer = b""
        while not answer.endswith(b"$1\r\nv\r\n"):
            answer += connection.recv(100)
    assert answer == b"+OK\r\n$1\r\nv\r\n"
    assert pod["status"]["qosClass"] == "Guaranteed"
    cluster.remove("redis.yaml")
    cluster.wait(lambda: cluster.pod("redis") is None, "the pod to be gone", 20)  # its grace is 30 s


@pytest.mark.skipif(not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")), reason="PostgreSQL is not installed")
def test_postgres_takes_its_password_from_a_secret_and_its_data_ends_with_it(cluster):
    text = (EXAMPLES / "postgres.yaml").read_text()
    uid = pwd.getpwnam("postgres").pw_uid
    cluster.write("postgres.yaml", text.replace("runAsUser: 65534", f"runAsUser: {uid}"))
    pod = cluster.wait_pod("postgres", ready, "postgres ready", 90)
    (initdb,) = pod["status"]["initContainerStatuses"]
    assert initdb["state"]["terminated"]["reason"] == "Completed"
    cluster.wait(lambda: "rows: 2\n" in cluster.output(pod, "client"), "the client's second row")

    def ask(password: str) -> subprocess.CompletedProcess[str]:
        command = ["psql", "-h", pod["status"]["podIP"], "-U", "app", "-d", "postgres", "-tAc", "select current_user"]
        env = {"PATH": "/usr/bin:/bin", "PGPASSWORD": password}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=20, check=False)

    assert ask("change-me").stdout == "app\n"
    assert "password authentication failed" in ask("wrong").stderr
    data = cluster.state_dir / "pods" / pod["metadata"]["uid"] / "volumes" / "kubernetes.io~empty-dir" / "data" / "db"
    assert data.stat().st_uid == uid
    log = cluster.log_dir / "pods" / f"default_postgres-n1_{pod['metadata']['uid']}" / "postgres" / "0.log"
    with log.open() as kept:
        cluster.remove("postgres.yaml")
        cluster.wait(lambda: cluster.pod("postgres") is None, "the pod to be gone")
        assert "database system is shut down" in kept.read().splitlines()[-1]
    assert not data.exists()


@pytest.mark.conformance("NODE-15")
def test_a_greedy_container_is_killed_and_says_so_while_its_neighbour_goes_on(cluster):
    cluster.write("oom.yaml", (EXAMPLES / "oom.yaml").read_text())

    def killed(pod):
        greedy, modest = status_of(pod, "greedy"), status_of(pod, "modest")
        # The neighbour is started second: the first may have ended before.
        return "running" in modest["state"] and any("terminated" in greedy[one] for one in ("state", "lastState"))

    pod = cluster.wait_pod("oom", killed, "the end of the greedy container")
    greedy = status_of(pod, "greedy")
    end = greedy["state"].get("terminated") or greedy["lastState"]["terminated"]
    assert (end["reason"], end["exitCode"]) == ("OOMKilled", 137)
    assert status_of(pod, "modest")["restartCount"] == 0
    cluster.remove("oom.yaml")


def test_settings_of_a_running_pod_change_in_files_only(cluster):
    text = (MANIFESTS / "config.yaml").read_text()
    cluster.write("config.yaml", text)
    pod = cluster.wait_pod("config", ready, "config ready")
    rest = 'labels: tier="example", secret on: tmpfs'
    cluster.wait(lambda: f"file: Hello, variable: Hello, {rest}\n" in cluster.output(pod), "the first line")
    cluster.write("config.yaml", text.replace("greeting: Hello", "greeting: Good morning"))
    cluster.wait(lambda: f"file: Good morning, variable: Hello, {rest}\n" in cluster.output(pod), "the new line")
    assert status_of(cluster.pod("config"), "main")["restartCount"] == 0
