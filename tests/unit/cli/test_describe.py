"""`describe pod`, as a whole: kubectl's layout with what only this node knows."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from minikubelet.cli.describe_pod import age_of_event, pod_lines, probe_line
from minikubelet.cli.facts import Facts, Verdict
from minikubelet.cli.tabwriter import align

NOW = datetime.fromisoformat("2026-01-01T00:10:00Z").timestamp()

POD = {
    "metadata": {
        "name": "web-n1",
        "namespace": "default",
        "uid": "u1",
        "labels": {"app": "web", "tier": "front"},
        "annotations": {"a/b": "two\nlines \x1b[31m"},
    },
    "spec": {
        "nodeName": "n1",
        "priority": 0,
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists", "effect": "NoExecute"}],
        "containers": [
            {
                "name": "main",
                "image": "host",
                "command": ["sh", "-c", "echo one\necho two"],
                "ports": [{"name": "http", "containerPort": 80, "hostPort": 8080, "protocol": "TCP"}],
                "resources": {"limits": {"memory": "64Mi", "cpu": "1"}, "requests": {"memory": "32Mi"}},
                "livenessProbe": {"exec": {"command": ["true"]}},
                "readinessProbe": {"httpGet": {"path": "/ok", "port": "http"}, "periodSeconds": 2},
                "envFrom": [{"configMapRef": {"name": "settings"}}],
                "env": [
                    {"name": "PLAIN", "value": "x"},
                    {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
                    {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "NOTHING", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['no.such']"}}},
                    {
                        "name": "MEMORY",
                        "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Ki"}},
                    },
                    {"name": "DISK", "valueFrom": {"resourceFieldRef": {"resource": "limits.ephemeral-storage"}}},
                    {"name": "WANTED", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}},
                ],
                "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True, "subPath": "a"}],
            }
        ],
        "volumes": [
            {"name": "data", "hostPath": {"path": "/srv", "type": "Directory"}},
            {"name": "cm", "configMap": {"name": "settings"}},
        ],
    },
    "status": {
        "phase": "Running",
        "hostIP": "192.0.2.1",
        "podIP": "10.0.0.2",
        "podIPs": [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}],
        "startTime": "2026-01-01T00:00:00Z",
        "qosClass": "Burstable",
        "conditions": [
            {"type": "Initialized", "status": "True"},
            {
                "type": "Ready",
                "status": "False",
                "reason": "ContainersNotReady",
                "message": "containers with unready status: [main]",
            },
        ],
        "containerStatuses": [
            {
                "name": "main",
                "containerID": "minikubelet://c1",
                "imageID": "minikubelet://host",
                "ready": False,
                "restartCount": 2,
                "state": {"running": {"startedAt": "2026-01-01T00:09:00Z"}},
                "lastState": {
                    "terminated": {
                        "exitCode": 137,
                        "reason": "OOMKilled",
                        "message": "too\nmuch",
                        "startedAt": "2026-01-01T00:00:00Z",
                        "finishedAt": "2026-01-01T00:08:00Z",
                    }
                },
            }
        ],
    },
}
EVENTS = [
    {
        "type": "Warning", "reason": "Unhealthy", "message": "Readiness probe failed: refused", "count": 3,
        "firstTimestamp": "2026-01-01T00:08:00Z", "lastTimestamp": "2026-01-01T00:09:55Z",
        "source": {"component": "kubelet"}, "involvedObject": {"fieldPath": "spec.containers{main}"},
    }
]  # fmt: skip

EXPECTED = """\
Name:         web-n1
Namespace:    default
Priority:     0
Manifest:     /m/web.yaml:4 (accepted)
Node:         n1/192.0.2.1
Start Time:   Thu, 01 Jan 2026 00:00:00 +0000
Labels:       app=web
              tier=front
Annotations:  a/b: two lines \\x1b[31m
Status:       Running
IP:           10.0.0.2
IPs:
  IP:  10.0.0.2
  IP:  fd00::2
Containers:
  main:
    Container ID:  minikubelet://c1
    Image:         host
    Image ID:      minikubelet://host
    Port:          80/TCP (http)
    Host Port:     8080/TCP (http)
    Command:
      sh
      -c
      echo one
      echo two
    State:          Running
      Started:      Thu, 01 Jan 2026 00:09:00 +0000
    Last State:     Terminated
      Reason:       OOMKilled
      Message:      too much
      Exit Code:    137
      Started:      Thu, 01 Jan 2026 00:00:00 +0000
      Finished:     Thu, 01 Jan 2026 00:08:00 +0000
    Ready:          False
    Restart Count:  2
    Limits:
      cpu:     1
      memory:  64Mi
    Requests:
      memory:  32Mi
    Use:
      memory:   12Mi
    Liveness:   exec [true] delay=0s timeout=1s period=10s #success=1 #failure=3
      Last:     success 2s ago
    Readiness:  http-get http://:http/ok delay=0s timeout=1s period=2s #success=1 #failure=3
      Last:     failure 5s ago: refused
    Environment Variables from:
      settings  ConfigMap  Optional: false
    Environment:
      PLAIN:    x
      KEY:      <set to the key 'k' in secret 's'>  Optional: false
      IP:       10.0.0.2 (v1:status.podIP)
      IPS:      10.0.0.2,fd00::2 (v1:status.podIPs)
      LABEL:    web (v1:metadata.labels['app'])
      NOTHING:   (v1:metadata.labels['no.such'])
      MEMORY:   65536 (limits.memory)
      DISK:     node allocatable (limits.ephemeral-storage)
      WANTED:   0 (requests.cpu)
    Mounts:
      /data from data (ro,path="a")
Conditions:
  Type         Status
  Initialized  True
  Ready        False  ContainersNotReady: containers with unready status: [main]
Volumes:
  data:
    Type:          HostPath (bare host directory volume)
    Path:          /srv
    HostPathType:  Directory
  cm:
    Type:        ConfigMap (a volume populated by a ConfigMap)
    Name:        settings
    Optional:    false
QoS Class:       Burstable
Node-Selectors:  disk=ssd
Tolerations:     :NoExecute op=Exists
Events:
  Type     Reason     Age              From     Message
  ----     ------     ----             ----     -------
  Warning  Unhealthy  5s (x3 over 2m)  kubelet  Readiness probe failed: refused"""


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_the_whole_page():
    facts = Facts(
        pod=POD,
        events=EVENTS,
        verdict=Verdict("/m/web.yaml", "/m/web.yaml: accepted\n"),
        probes=[
            {
                "container": "main",
                "kind": "liveness",
                "result": "success",
                "output": "ok",
                "time": "2026-01-01T00:09:58Z",
            }
        ],
        line=4,
    )
    assert align("\n".join(pod_lines(facts, {"main": {"memory": "12Mi"}}, NOW))) == EXPECTED


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        ({"tcpSocket": {"port": 80}}, "tcp-socket :80 delay=0s"),
        ({"grpc": {"port": 80, "service": "x"}}, "grpc <pod>:80 x delay=0s"),
        ({"httpGet": {"port": 80, "scheme": "HTTPS", "host": "h", "path": "p"}}, "http-get https://h:80/p delay=0s"),
        ({"exec": {"command": ["a", "b"]}, "initialDelaySeconds": 5}, "exec [a b] delay=5s timeout=1s period=10s"),
    ],
)
def test_probe_line(probe, words):
    assert probe_line(probe).startswith(words)


def test_age_of_an_event():
    assert age_of_event({"lastTimestamp": "2026-01-01T00:09:55Z"}, NOW) == "5s"
