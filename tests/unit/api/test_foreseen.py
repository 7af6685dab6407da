"""What is accepted and cannot work is told with its place, and with what was probably meant."""

from __future__ import annotations

import pytest

from minikubelet.api.manifest import parse_manifest

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: a}}
spec:
  initContainers:
  - {{name: s, image: x, command: [x], restartPolicy: Always, ports: [{{containerPort: 81, name: admin}}]}}
  containers:
  - name: c
    image: x
    command: [x]
    ports: [{{containerPort: 80, name: http}}, {{containerPort: 90}}]
    {field}
"""
NONE = "no port of this container is named"


@pytest.mark.parametrize(
    ("field", "path", "text", "hint"),
    [
        (
            "readinessProbe: {httpGet: {port: htpp}}",
            "readinessProbe.httpGet.port",
            f'{NONE} "htpp": the container never becomes ready',
            'did you mean "http"?',
        ),
        (
            "livenessProbe: {tcpSocket: {port: admin}}",
            "livenessProbe.tcpSocket.port",
            f'{NONE} "admin": the container is never restarted for it',
            "",
        ),
        (
            "startupProbe: {httpGet: {port: a}}",
            "startupProbe.httpGet.port",
            f'{NONE} "a": the container never counts as started',
            "",
        ),
        (
            "lifecycle: {preStop: {httpGet: {port: x1}}}",
            "lifecycle.preStop.httpGet.port",
            f'{NONE} "x1": the hook fails',
            "",
        ),
        (
            "lifecycle: {postStart: {tcpSocket: {port: 80}}}",
            "lifecycle.postStart.tcpSocket",
            "a hook by tcpSocket is not implemented in Kubernetes and always fails",
            "",
        ),
    ],
)
def test_what_cannot_work(field: str, path: str, text: str, hint: str) -> None:
    manifest = parse_manifest(POD.format(field=field).encode(), file="f", node_name="n")
    assert len(manifest.pods) == 1
    (warning,) = manifest.problems
    path = f"spec.containers[0].{path}"
    assert (warning.severity.value, warning.field, warning.message) == ("warning", path, f"{path}: {text}")
    assert (warning.line, warning.hint) == (13, hint)


@pytest.mark.parametrize(
    "field",
    [
        "readinessProbe: {httpGet: {port: http}}",
        "livenessProbe: {tcpSocket: {port: 8080}}",
        "lifecycle: {preStop: {httpGet: {port: http}}, postStart: {exec: {command: [x]}}}",
    ],
)
def test_what_works(field: str) -> None:
    assert parse_manifest(POD.format(field=field).encode(), file="f", node_name="n").problems == []
