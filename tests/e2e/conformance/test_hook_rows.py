"""HOOK: lifecycle hooks. A second pod logs requests; HTTP hooks go to a sidecar's server at the pod's own address."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from typing import Any

import pytest

GOES = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]
SERVER = """
import http.server, os, signal, ssl, sys, threading
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.path, self.headers['User-Agent'], flush=True)
        self.send_response(500)
        self.end_headers()
    def log_message(self, *arguments):
        pass
servers = [http.server.ThreadingHTTPServer(('', port), Handler) for port in (8080, 9090)]
if len(sys.argv) > 1:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    servers[1].socket = context.wrap_socket(servers[1].socket, server_side=True)
threading.Thread(target=servers[0].serve_forever, daemon=True).start()
servers[1].serve_forever()
"""
Json = dict[str, Any]


def pod(
    name: str, lifecycle: Json, *, command: list[str] | None = None, grace: int = 5, server: list[str] | None = None
) -> str:
    """Return a pod with hooks; with a server as a sidecar that must answer before the container starts."""
    spec: Json = {
        "terminationGracePeriodSeconds": grace,
        "containers": [{"name": "main", "image": "host", "command": command or GOES, "lifecycle": lifecycle}],
    }
    if server is not None:
        probe = {"tcpSocket": {"port": 9090}, "periodSeconds": 1, "failureThreshold": 60}
        one = {"name": "server", "image": "host", "restartPolicy": "Always", "command": server, "startupProbe": probe}
        spec["initContainers"] = [one]
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def http(path: str, port: int, scheme: str = "HTTP") -> Json:
    return {"httpGet": {"path": path, "port": port, "scheme": scheme}}


def fetch(url: str) -> Json:
    code = f"import urllib.request as r, urllib.error as e\ntry: r.urlopen('{url}')\nexcept e.HTTPError: pass"
    return {"exec": {"command": ["python3", "-c", code]}}


def sleep(seconds: int) -> Json:
    return {"preStop": {"sleep": {"seconds": seconds}}}


SAYS = "echo why >&2; echo no; exit 3"


@pytest.fixture(scope="module")
def serve(tmp_path_factory) -> dict[str, list[str]]:
    """Return the commands of a plain server and of one with a certificate of its own."""
    base = tmp_path_factory.mktemp("tls")
    certificate = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=nobody"]
    files = ["-keyout", f"{base}/k.pem", "-out", f"{base}/c.pem"]
    subprocess.run([*certificate, *files], check=True, capture_output=True)
    plain = ["python3", "-c", SERVER]
    texts = "".join(f"cat > /{name} <<'E'\n{(base / name).read_text()}E\n" for name in ("c.pem", "k.pem"))
    return {"plain": plain, "tls": ["sh", "-c", texts + 'exec "$@"', "sh", *plain, "/c.pem", "/k.pem"]}


@pytest.fixture(scope="module", autouse=True)
def pods(cluster, serve) -> None:
    """Drop all pods at once; the exec hooks go to the logging pod, whose address is known when it runs."""
    cluster.write("logger.yaml", pod("logger", {}, command=serve["plain"]))
    both = {"postStart": http("/echo?msg=poststart", 8080), "preStop": http("echo?msg=prestop", 8080)}
    secure = {kind: http(f"/echo?msg={kind.lower()}", 9090, "HTTPS") for kind in ("postStart", "preStop")}
    given = {
        "hook-http": pod("hook-http", both, server=serve["plain"]),
        "hook-https": pod("hook-https", secure, server=serve["tls"]),
        "hook-fallback": pod("hook-fallback", secure, server=serve["plain"]),
        "hook-13": pod("hook-13", sleep(3), grace=30),
        "hook-14": pod("hook-14", sleep(50), grace=100),
        "hook-16": pod("hook-16", sleep(0), grace=20),
        "hook-tcp": pod("hook-tcp", {"postStart": {"tcpSocket": {"port": 80}}}),
        "hook-says": pod("hook-says", {"postStart": {"exec": {"command": ["sh", "-c", SAYS]}}}),
        "hook-fails": pod("hook-fails", {"preStop": {"exec": {"command": ["false"]}}}),
    }
    for name, text in given.items():
        cluster.write(f"{name}.yaml", text)
    found = cluster.wait_pod("logger", lambda p: p["status"].get("podIP"), "an address")
    cluster.wait(lambda: answers(found["status"]["podIP"]), "the server", limit_s=60)
    base = f"http://{found['status']['podIP']}:8080/echo?msg="
    lifecycle = {"postStart": fetch(base + "exec-poststart"), "preStop": fetch(base + "exec-prestop")}
    cluster.write("hook-exec.yaml", pod("hook-exec", lifecycle, grace=15))


def answers(ip: str) -> bool:
    try:
        socket.create_connection((ip, 8080), timeout=1).close()
    except OSError:
        return False
    return True


def running(found: Json) -> bool:
    return all("running" in one["state"] for one in found["status"].get("containerStatuses", [{"state": {}}]))


def events(cluster, name: str, reason: str) -> list[Json]:
    listed = json.loads(cluster.cli("get", "events", "-A", "-o", "json").stdout)["items"]
    return [one for one in listed if one["involvedObject"]["name"] == f"{name}-n1" and one["reason"] == reason]


def remove(cluster, name: str) -> None:
    (cluster.manifests / f"{name}.yaml").unlink()


def gone(cluster, name: str, limit_s: float = 30.0) -> float:
    """Wait until a pod is gone; return how long that took."""
    begin = time.monotonic()
    cluster.wait(lambda: cluster.pod(name) is None, "the pod to be gone", limit_s)
    return time.monotonic() - begin


@pytest.mark.conformance("HOOK-01")
@pytest.mark.conformance("HOOK-02")
def test_exec_hooks_run_in_the_container(cluster):
    cluster.wait_pod("hook-exec", running, "running", limit_s=60)
    logger = cluster.pod("logger")
    # The hook has had its answer; what the server says of it comes by another pod's pause.
    cluster.wait(lambda: "exec-poststart" in cluster.log(logger, "main"), "the first request")
    remove(cluster, "hook-exec")
    gone(cluster, "hook-exec")
    cluster.wait(lambda: "exec-prestop" in cluster.log(logger, "main"), "the second request")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("hook-http", marks=[pytest.mark.conformance("HOOK-03"), pytest.mark.conformance("HOOK-05")]),
        pytest.param("hook-https", marks=[pytest.mark.conformance("HOOK-04"), pytest.mark.conformance("HOOK-06")]),
        "hook-fallback",
    ],
)
def test_http_hooks_go_to_the_pod_and_any_answer_is_success(cluster, name):
    found = cluster.wait_pod(name, running, "running", limit_s=60)
    cluster.wait(lambda: "/echo?msg=poststart kube-lifecycle/" in cluster.log(found, "server"), "the first request")
    log = cluster.log_dir / "pods" / f"default_{name}-n1_{found['metadata']['uid']}" / "server" / "0.log"
    with open(log) as kept:
        remove(cluster, name)
        gone(cluster, name)
        assert "/echo?msg=prestop kube-lifecycle/" in kept.read()
    assert events(cluster, name, "FailedPostStartHook") == []
    assert events(cluster, name, "FailedPreStopHook") == []
    fallbacks = events(cluster, name, "LifecycleHTTPFallback")
    host = f"{found['status']['podIP']}:9090"
    expected = f"request to HTTPS lifecycle hook {host} got HTTP response, retry with HTTP succeeded"
    assert [one["message"] for one in fallbacks] == ([expected] if name == "hook-fallback" else [])
    assert sum(one["count"] for one in fallbacks) == (2 if name == "hook-fallback" else 0)


@pytest.mark.conformance("HOOK-13")
def test_sleep_takes_its_time(cluster):
    cluster.wait_pod("hook-13", running, "running", limit_s=60)
    remove(cluster, "hook-13")
    assert 3 < gone(cluster, "hook-13") < 25


@pytest.mark.conformance("HOOK-16")
def test_sleep_of_no_time(cluster):
    cluster.wait_pod("hook-16", running, "running", limit_s=60)
    remove(cluster, "hook-16")
    assert gone(cluster, "hook-16") < 15


def test_tcp_hook_always_fails_and_its_container_waits(cluster):
    def failed(found: Json) -> bool:
        waiting = found["status"]["containerStatuses"][0]["state"].get("waiting", {})
        return waiting.get("reason") in ("PostStartHookError", "CrashLoopBackOff")

    cluster.wait_pod("hook-tcp", failed, "a failed hook")
    assert events(cluster, "hook-tcp", "FailedPostStartHook")[0]["message"] == "PostStartHook failed"
    assert events(cluster, "hook-tcp", "Killing")[0]["message"] == "FailedPostStartHook"


def test_what_a_failed_exec_hook_said_is_told(cluster):
    said = rf"command 'sh -c {SAYS}' exited with 3: why\n, message: \"no\\nwhy\\n\""  # escaped as in the log
    log = cluster.base / "daemon.log"
    cluster.wait(lambda: said in log.read_text(), "the hook's words in the log", limit_s=60)


def test_failing_pre_stop_hook_is_told_and_stops_nothing(cluster):
    cluster.wait_pod("hook-fails", running, "running", limit_s=60)
    remove(cluster, "hook-fails")
    gone(cluster, "hook-fails")
    (event,) = events(cluster, "hook-fails", "FailedPreStopHook")
    assert (event["type"], event["message"]) == ("Warning", "PreStopHook failed")
    assert event["involvedObject"]["fieldPath"] == "spec.containers{main}"


@pytest.mark.conformance("HOOK-14")
def test_sleep_is_cut_by_a_smaller_grace(cluster):
    # A pod whose file went while the daemon was away has a grace of 1 s.
    cluster.wait_pod("hook-14", running, "running", limit_s=60)
    cluster.kill()
    remove(cluster, "hook-14")
    cluster.start()
    assert gone(cluster, "hook-14", limit_s=60) < 45
