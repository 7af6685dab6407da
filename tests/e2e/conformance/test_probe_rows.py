"""PROBE: probes of app containers and of sidecars, periods and delays scaled down to seconds."""

from __future__ import annotations

import json
import re
import sys
import time
from datetime import datetime
from typing import Any

import pytest

CONFIG = "crashLoopBackOff: {maxContainerRestartPeriod: 1s}"
# As long as a row that expects no restart is watched: ten runs of a probe that would end it at its first failure.
WATCH_S = 10.0

SERVER = """
import http.server, sys, time, urllib.parse
begin, healthy = time.monotonic(), float(sys.argv[2])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        self.send_response(302 if url.path == '/redirect' else 200 if time.monotonic() - begin < healthy else 500)
        if url.path == '/redirect':
            self.send_header('Location', urllib.parse.parse_qs(url.query)['loc'][0])
        self.end_headers()
        self.wfile.write(b'moved' if url.path == '/redirect' else b'')
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(('', int(sys.argv[1])), Handler).serve_forever()
"""
GRPC = """
import asyncio, grpclib.const, grpclib.server
class Codec:
    __content_subtype__ = 'proto'
    encode = decode = staticmethod(lambda message, kind: message)
class Health:
    async def check(self, stream):
        await stream.recv_message()
        await stream.send_message(bytes([8, 1]))
    def __mapping__(self):
        kind = grpclib.const.Cardinality.UNARY_UNARY
        return {'/grpc.health.v1.Health/Check': grpclib.const.Handler(self.check, kind, bytes, bytes)}
async def main():
    server = grpclib.server.Server([Health()], codec=Codec())
    await server.start('0.0.0.0', 5000)
    await server.wait_closed()
asyncio.run(main())
"""
SLEEP = ["sleep", "1000"]
DEAF = ["bash", "-c", "trap '' TERM; while :; do sleep 0.1; done"]
DATA = {"name": "data", "mountPath": "/d"}
GRPC_SERVER = [sys.executable, "-c", GRPC]

Json = dict[str, Any]


def server(port: int, *, healthy: float) -> list[str]:
    return ["python3", "-c", SERVER, str(port), str(healthy)]


def shell(text: str) -> list[str]:
    return ["bash", "-c", text]


def run(*command: str) -> Json:
    return {"exec": {"command": list(command)}}


def http(path: str, port: int | str = 8080) -> Json:
    return {"httpGet": {"path": path, "port": port}}


def spec(handler: Json, *, id: int = 1, ft: int = 1, to: int = 5, **more: int) -> Json:  # noqa: A002
    return {
        **handler,
        "initialDelaySeconds": id,
        "periodSeconds": 1,
        "failureThreshold": ft,
        "timeoutSeconds": to,
        **more,
    }


def listens(port: int) -> Json:
    return spec({"tcpSocket": {"port": port}}, id=0, ft=600)


def pod(name: str, command: list[str], *, sidecar: bool = False, grace: int = 1, **probes: Json) -> str:
    """Return a pod with one probed container, or with a probed sidecar beside a sleeping one."""
    probed = {"name": "main", "image": "host", "command": command, "volumeMounts": [DATA]}
    probed |= {f"{kind}Probe": probe for kind, probe in probes.items()}
    containers = [{"name": "app", "image": "host", "command": SLEEP}] if sidecar else [probed]
    inits = [{**probed, "restartPolicy": "Always"}] if sidecar else []
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "terminationGracePeriodSeconds": grace,
                "volumes": [{"name": "data", "emptyDir": {}}],
                "initContainers": inits,
                "containers": containers,
            },
        }
    )


HEALTH = "rm -f /d/h; echo ok > /d/h; "
CAT = run("cat", "/d/h")
# A busy machine takes its time: where no restart is expected, a probe waits for its server and for the answer.
SLOW = 60
FLAKY = server(8080, healthy=2)
BY_ID: dict[str, Json] = {
    "probe-01": {"command": server(80, healthy=1e6), "readiness": spec(http("/", 80), id=3)},
    "probe-02": {"command": server(80, healthy=1e6), "readiness": spec(http("/", 81))},
    "probe-03": {"command": shell(HEALTH + "sleep 2; rm /d/h; exec sleep 600"), "liveness": spec(CAT)},
    "probe-04": {"command": shell(HEALTH + "exec sleep 600"), "liveness": spec(CAT, to=SLOW)},
    "probe-05": {"command": FLAKY, "liveness": spec(http("/healthz"))},
    "probe-06": {"command": FLAKY, "liveness": spec({"tcpSocket": {"port": 8080}}, to=SLOW), "startup": listens(8080)},
    "probe-07": {"command": server(8080, healthy=1.5), "liveness": spec(http("/healthz"), id=1)},
    "probe-08": {
        "command": server(80, healthy=1e6),
        "liveness": spec(http("/", 80), ft=5, to=SLOW),
        "startup": listens(80),
    },
    "probe-09": {"command": SLEEP, "liveness": spec(run("sleep", "10"), to=1)},
    "probe-10": {"command": SLEEP, "readiness": spec(run("sleep", "10"), to=1)},
    "probe-12": {"command": FLAKY, "liveness": spec(http("/redirect?loc=/healthz"))},
    "probe-13": {
        "command": FLAKY,
        "liveness": spec(http("/redirect?loc=http%3A%2F%2F0.0.0.0%2F"), to=SLOW),
        "startup": listens(8080),
    },
    "probe-14": {"command": SLEEP, "startup": spec(run("false"), ft=3), "liveness": spec(run("true"))},
    "probe-15": {"command": SLEEP, "startup": spec(run("false"), ft=60), "liveness": spec(run("false"))},
    "probe-16": {
        "command": shell("rm -f /d/h; sleep 2; echo ok > /d/h; exec sleep 600"),
        "startup": spec(CAT, ft=60),
        "liveness": spec(run("false")),
    },
    "probe-18": {"command": DEAF, "grace": 500, "liveness": spec(http("/", 81), terminationGracePeriodSeconds=1)},
    "probe-19": {"command": DEAF, "grace": 500, "startup": spec(CAT, terminationGracePeriodSeconds=1)},
    "probe-20": {
        "command": GRPC_SERVER,
        "liveness": spec({"grpc": {"port": 5000}}, to=SLOW),
        "startup": listens(5000),
    },
    "probe-21": {"command": GRPC_SERVER, "liveness": spec({"grpc": {"port": 2333}}, id=2)},
    "probe-22": {
        "command": shell("touch /d/h; trap 'rm /d/h; sleep 30' TERM; while :; do sleep 0.1; done"),
        "grace": 5,
        "readiness": spec(CAT, id=0),
    },
}
AS_SIDECARS = ("probe-01", "probe-03", "probe-05", "probe-09", "probe-14", "probe-15", "probe-16", "probe-18")
PODS = {name: pod(name, **row) for name, row in BY_ID.items()}
PODS |= {f"{name}-sidecar": pod(f"{name}-sidecar", sidecar=True, **BY_ID[name]) for name in AS_SIDECARS}


def rows(*names: str):
    """Return the rows of some ids, on an app container and, where there is one, on a sidecar."""
    found = []
    for name in names:
        for one in (name, f"{name}-sidecar"):
            if one in PODS:
                found.append(pytest.param(one, marks=pytest.mark.conformance(name.upper())))
    return pytest.mark.parametrize("name", found)


def main(found: Json) -> Json:
    statuses = [*found["status"].get("initContainerStatuses", ()), *found["status"].get("containerStatuses", ())]
    return next(one for one in statuses if one["name"] == "main")


def condition(found: Json, kind: str) -> Json:
    return next(one for one in found["status"]["conditions"] if one["type"] == kind)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def restarts(count: int):
    return lambda found: main(found)["restartCount"] >= count


def events(cluster, name: str, reason: str) -> list[Json]:
    listed = json.loads(cluster.cli("get", "events", "-A", "-o", "json").stdout)["items"]
    return [one for one in listed if one["involvedObject"]["name"] == f"{name}-n1" and one["reason"] == reason]


@rows("probe-01")
def test_not_ready_before_the_initial_delay(cluster, name):
    found = cluster.wait_pod(name, lambda p: condition(p, "Ready")["status"] == "True", "Ready", limit_s=60)
    ready = seconds(condition(found, "Ready")["lastTransitionTime"])
    assert ready - seconds(main(found)["state"]["running"]["startedAt"]) >= 3
    assert main(found)["restartCount"] == 0


@rows("probe-03", "probe-05", "probe-09", "probe-12", "probe-14", "probe-16", "probe-21")
def test_failure_restarts(cluster, name):
    cluster.wait_pod(name, restarts(1), "a restart", limit_s=90)


@rows("probe-18", "probe-19")
def test_grace_of_the_probe_overrides_that_of_the_pod(cluster, name):
    found = cluster.wait_pod(name, restarts(1), "a restart", limit_s=90)
    assert main(found)["lastState"]["terminated"]["exitCode"] == 137
    ended = seconds(main(found)["lastState"]["terminated"]["finishedAt"])
    assert ended - seconds(main(found)["lastState"]["terminated"]["startedAt"]) < 30
    (kill,) = events(cluster, name, "Killing")
    kind = "startup" if "startup" in BY_ID[name.removesuffix("-sidecar")] else "liveness"
    sidecar = name.endswith("-sidecar")
    expected = f"Init container main failed {kind} probe" if sidecar else f"Container main failed {kind} probe, will be"
    assert kill["message"].startswith(expected)
    assert kill["involvedObject"]["fieldPath"] == ("spec.initContainers{main}" if sidecar else "spec.containers{main}")


@rows("probe-07")
def test_restart_count_never_falls(cluster, name):
    counts = [0]

    def five(found: Json) -> bool:
        counts.append(main(found)["restartCount"])
        return counts[-1] >= 5

    cluster.wait_pod(name, five, "5 restarts", limit_s=120)
    assert counts == sorted(counts)


@rows("probe-02", "probe-10")
def test_failing_readiness_makes_unready_and_restarts_nothing(cluster, name):
    watch(cluster, name)
    found = cluster.pod(name)
    assert condition(found, "Ready")["status"] == "False"
    # It has never been Ready: the condition is as old as the pod's first status.
    created = condition(found, "PodScheduled")["lastTransitionTime"]
    assert condition(found, "Ready")["lastTransitionTime"] == created
    assert main(found)["restartCount"] == 0


@rows("probe-04", "probe-06", "probe-08", "probe-13", "probe-15", "probe-20")
def test_no_restart(cluster, name):
    watch(cluster, name)
    # That nothing restarts says something only if the probe is really asked, and answered as the row has it.
    held_back = name.startswith("probe-15")
    asked = ("Startup", "failed") if held_back else ("Liveness", "successful")
    cluster.wait(lambda: runs(cluster, name).get(asked, 0) >= 3, "three runs of the probe", limit_s=60)
    if held_back:
        assert not any(kind == "Liveness" for kind, _ in runs(cluster, name))
    assert main(cluster.pod(name))["restartCount"] == 0
    if name == "probe-13":
        message = "Liveness probe warning: Probe terminated redirects, Response body: moved"
        cluster.wait(
            lambda: (
                [(one["message"], one["count"] > 1) for one in events(cluster, name, "ProbeWarning")]
                == [(message, True)]
            ),
            "two warnings",
            limit_s=60,
        )


def runs(cluster, name: str) -> dict[tuple[str, str], float]:
    """Return how often the probes of a pod's main container were run, by kind and result."""
    found: dict[tuple[str, str], float] = {}
    for line in cluster.get("/metrics/probes").splitlines():
        labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
        if line.startswith("prober_probe_total{") and labels["pod"] == f"{name}-n1" and labels["container"] == "main":
            found[labels["probe_type"], labels["result"]] = float(line.rpartition(" ")[2])
    return found


def watch(cluster, name: str) -> None:
    """Wait until a pod's container has run for as long as it is watched."""
    cluster.wait_pod(name, lambda p: "running" in main(p)["state"], "running", limit_s=60)
    started = seconds(main(cluster.pod(name))["state"]["running"]["startedAt"])
    cluster.wait(lambda: time.time() > started + WATCH_S, "the watch to be over", limit_s=WATCH_S + 5)


@rows("probe-22")
def test_readiness_goes_false_while_terminating(cluster, name):
    cluster.wait_pod(name, lambda p: condition(p, "Ready")["status"] == "True", "Ready", limit_s=60)
    (cluster.manifests / f"{name}.yaml").unlink()
    cluster.wait_pod(name, lambda p: condition(p, "Ready")["status"] == "False", "Ready to be False")
    cluster.wait(lambda: cluster.pod(name) is None, "the pod to be gone")
