"""Programs that nobody here wrote, as Debian packages them, asked over their pods' addresses."""

from __future__ import annotations

import shutil
import socket
import urllib.request

import pytest

pytestmark = pytest.mark.root

NGINX = """
apiVersion: v1
kind: ConfigMap
metadata: {name: page}
data:
  index.html: first page
  nginx.conf: |
    daemon off;
    pid /tmp/nginx.pid;
    events {}
    http { access_log /dev/stdout; server { listen 80; root /page; } }
---
apiVersion: v1
kind: Pod
metadata: {name: nginx}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: nginx
    image: host
    command: [nginx, -c, /conf/nginx.conf, -e, /dev/stderr]
    ports: [{name: http, containerPort: 80}]
    readinessProbe: {httpGet: {port: http}, periodSeconds: 1}
    volumeMounts:
    - {name: page, mountPath: /page}
    - {name: page, mountPath: /conf}
  volumes:
  - {name: page, configMap: {name: page}}
"""

REDIS = """
apiVersion: v1
kind: Pod
metadata: {name: redis}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: redis
    image: host
    command: [redis-server, --bind, 0.0.0.0, --protected-mode, "no", --dir, /data, --save, ""]
    ports: [{containerPort: 6379}]
    readinessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1}
    livenessProbe: {exec: {command: [redis-cli, ping]}, periodSeconds: 1}
    resources: {limits: {memory: 128Mi, cpu: "1"}}
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
"""


def ready(pod):
    return pod["status"].get("containerStatuses", [{}])[0].get("ready", False)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_serves_a_config_map_that_changes_live(node):
    node.write("nginx.yaml", NGINX)
    pod = node.wait_pod("nginx", ready, "nginx ready")
    url = f"http://{pod['status']['podIP']}/"
    assert urllib.request.urlopen(url).read() == b"first page"
    node.write("nginx.yaml", NGINX.replace("first page", "second page"))
    node.wait(lambda: urllib.request.urlopen(url).read() == b"second page", "the new page")
    assert node.pod("nginx")["metadata"]["uid"] == pod["metadata"]["uid"]
    assert node.pod("nginx")["status"]["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis is not installed")
def test_redis_answers_and_ends_within_its_grace(node):
    node.write("redis.yaml", REDIS)
    pod = node.wait_pod("redis", ready, "redis ready")
    with socket.create_connection((pod["status"]["podIP"], 6379), timeout=5) as connection:
        connection.sendall(b"SET k v\r\nGET k\r\n")
        answer = b""
        while not answer.endswith(b"$1\r\nv\r\n"):
            answer += connection.recv(100)
    assert answer == b"+OK\r\n$1\r\nv\r\n"
    assert pod["status"]["qosClass"] == "Guaranteed"
    (node.manifests / "redis.yaml").unlink()
    node.wait(lambda: node.pod("redis") is None, "the pod to be gone", 4)
