"""Every verb against a live daemon with a handful of pods."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import urllib.request
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from minikubelet.cli import client

pytestmark = pytest.mark.root

PODS = """
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web, tier: front}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: www, emptyDir: {}}]
  initContainers:
  - name: page
    image: host
    command: [sh, -c, 'echo made the page; echo hello > /www/index.html']
    volumeMounts: [{name: www, mountPath: /www}]
  containers:
  - name: server
    image: host
    command: [python3, -u, -m, http.server, "80", --directory, /www]
    env: [{name: WHERE, value: here}]
    ports: [{name: http, containerPort: 80}]
    resources: {limits: {memory: 128Mi}, requests: {cpu: 10m}}
    readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1, timeoutSeconds: 30}
    volumeMounts: [{name: www, mountPath: /www}]
  - name: helper
    image: host
    command: [sh, -c, 'n=0; while :; do n=$((n+1)); echo "helper $n"; sleep 0.2; done']
---
apiVersion: v1
kind: Pod
metadata:
  name: crash
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: host
    command: [sh, -c, 'echo something is missing >&2; exit 3']
    terminationMessagePolicy: FallbackToLogsOnError
---
apiVersion: v1
kind: Pod
metadata:
  name: job
  labels: {app: job}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: host
    command: [sh, -c, 'for n in 1 2 3 4 5; do echo line $n; done']
---
apiVersion: v1
kind: Pod
metadata:
  name: sick
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: host
    command: [sleep, '1000']
    readinessProbe: {exec: {command: [sh, -c, 'echo no water; exit 1']}, periodSeconds: 1, timeoutSeconds: 30}
---
apiVersion: v1
kind: Pod
metadata:
  name: echo
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: host
    stdin: true
    tty: true
    command: [sh, -c, 'while read line; do echo "got $line"; done']
---
apiVersion: v1
kind: Pod
metadata:
  name: count
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: host
    command: [python3, -c, COUNT]
    readinessProbe: {exec: {command: [test, -e, /tmp/port]}, periodSeconds: 1}
"""
# Answers each connection with the number of bytes that came, once there will be no more.
COUNT = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
open("/tmp/port", "w").write(str(listener.getsockname()[1]))
while True:
    connection, _ = listener.accept()
    total = 0
    while data := connection.recv(65536):
        total += len(data)
    connection.sendall(b"%d" % total)
    connection.close()
"""
PODS = PODS.replace("COUNT", json.dumps(COUNT))


@pytest.fixture(scope="module")
def node(cluster):
    """The shared daemon with the pods above, all of them as far as they get."""
    cluster.write("pods.yaml", PODS)
    for name, condition in (("web", "Ready"), ("echo", "Ready"), ("count", "Ready")):
        done = cluster.cli("wait", f"--for=condition={condition}", f"pod/{name}", "--timeout=30s")
        assert done.returncode == 0, done.stderr
    assert cluster.cli("wait", "--for=jsonpath={.status.phase}=Succeeded", "job").returncode == 0
    cluster.wait_pod(
        "crash",
        lambda p: p["status"]["containerStatuses"][0]["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff",
        "back-off",
    )
    cluster.wait(lambda: "no water" in cluster.cli("get", "events").stdout, "the failed probe")
    return cluster


def run(node, *arguments, code=0, text=None):
    """Run a verb and return its output; its exit code must be as expected."""
    command = [sys.executable, "-m", "minikubelet", *arguments, *node.roots]
    if "--" in arguments:
        cut = arguments.index("--")
        command = [sys.executable, "-m", "minikubelet", *arguments[:cut], *node.roots, *arguments[cut:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, input=text)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@contextlib.contextmanager
def running(node, *arguments):
    """Run a verb that does not end by itself."""
    command = [sys.executable, "-u", "-m", "minikubelet", *arguments, *node.roots]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)


def read_until(stream, word, limit_s=40.0):
    """Read from a pipe until a text has come."""
    data = b""
    deadline = time.monotonic() + limit_s
    descriptor = stream if isinstance(stream, int) else stream.fileno()
    while word not in data:
        left = deadline - time.monotonic()
        assert left > 0, f"waited for {word!r}, got {len(data)} bytes that end with {data[-1000:]!r}"
        ready, _, _ = select.select([descriptor], [], [], left)
        assert ready, f"waited for {word!r}, got {data!r}"
        more = os.read(descriptor, 65536)
        assert more, f"ended before {word!r}: {data!r}"
        data += more
    return data.decode()


# get


def test_get_prints_kubectls_table(node):
    lines = run(node, "get", "pods").stdout.splitlines()
    assert lines[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    table = {line.split()[0]: line.split()[1:3] for line in lines[1:]}
    assert table["web-n1"] == ["2/2", "Running"]
    node.wait(lambda: "CrashLoopBackOff" in run(node, "get", "pod", "crash").stdout, "the time between two starts")
    assert table["job-n1"] == ["0/1", "Completed"]
    assert table["sick-n1"] == ["0/1", "Running"]


def test_get_by_several_names_and_labels(node):
    assert run(node, "get", "pods", "web", "job-n1", "-o", "name").stdout == "pod/job-n1\npod/web-n1\n"
    assert run(node, "get", "pod/web", "-o", "name").stdout == "pod/web-n1\n"
    assert run(node, "get", "pods", "-l", "app in (web, job),tier", "-o", "name").stdout == "pod/web-n1\n"
    fields = run(node, "get", "pods", "--field-selector", "status.phase=Succeeded", "-o", "name")
    assert fields.stdout == "pod/job-n1\n"


def test_get_wide_labels_and_no_headers(node):
    line = run(node, "get", "pod", "web", "-A", "-o", "wide", "--no-headers", code=2)
    assert "leave one out" in line.stderr
    text = run(node, "get", "pods", "-l", "app=web", "-A", "-o", "wide", "--show-labels", "-L", "tier").stdout
    header, row = text.splitlines()
    assert header.split()[0] == "NAMESPACE"
    assert header.split()[-2:] == ["TIER", "LABELS"]
    assert row.split()[-2:] == ["front", "app=web,tier=front"]
    assert node.cidr.rsplit(".", 1)[0] in row


def test_get_forms_for_scripts(node):
    one = json.loads(run(node, "get", "pod", "web", "-o", "json").stdout)
    assert (one["kind"], one["metadata"]["name"]) == ("Pod", "web-n1")
    many = yaml.safe_load(run(node, "get", "pods", "-o", "yaml").stdout)
    assert (many["kind"], len(many["items"])) == ("List", 6)
    ip = run(node, "get", "pod", "web", "-o", "jsonpath={.status.podIP}").stdout
    assert ip == one["status"]["podIP"]
    columns = run(node, "get", "pods", "-o", "custom-columns=N:.metadata.name,P:.status.phase").stdout
    assert re.search(r"^job-n1 +Succeeded$", columns, re.MULTILINE)


def test_get_sorts(node):
    names = run(node, "get", "pods", "--sort-by=.metadata.name", "-o", "name").stdout.split()
    assert names == sorted(names)
    table = run(node, "get", "pods", "--sort-by={.status.phase}", "--no-headers").stdout.split("\n")
    assert table[-2].startswith("job-n1")


def test_get_watch_sees_a_change(node):
    with running(node, "get", "pods", "-w") as process:
        read_until(process.stdout, b"web-n1")
        node.write("late.yaml", PODS.split("---")[2].replace("name: job", "name: late"))
        text = read_until(process.stdout, b"Completed")
        assert "late-n1" in text
    (node.manifests / "late.yaml").unlink()
    run(node, "wait", "--for=delete", "pod/late")


def test_get_of_what_is_not_there(node):
    assert "did you mean crash-n1?" in run(node, "get", "pod", "crahs", code=1).stderr
    assert "No resources found in other namespace." in run(node, "get", "pods", "-n", "other").stderr
    assert "is in another namespace: add -n default" in run(node, "get", "pod", "web", "-n", "other", code=1).stderr


# describe, why, events, status


def test_describe_tells_all(node):
    text = run(node, "describe", "pod", "web").stdout
    for words in (
        "Name:         web-n1",
        f"Manifest:     {node.manifests}/pods.yaml:2 (accepted)",
        "  page:\n",
        "    State:          Terminated\n      Reason:       Completed\n      Exit Code:    0",
        "      memory:  128Mi",
        "http-get http://:http/ delay=0s timeout=30s period=1s #success=1 #failure=3",
        "      WHERE:  here",
        "      /www from www (rw)",
        "EmptyDir (a temporary directory that shares a pod's lifetime)",
        "QoS Class:       Burstable",
        "Container started",
    ):
        assert words in text
    assert "Last Failure" not in text
    assert "no water" in run(node, "describe", "pod/sick").stdout


def test_why(node):
    assert "web-n1 is well: 2 of 2 containers ready" in run(node, "why", "web").stdout
    crash = 'ended with exit code 3, and said "something is missing". The next start comes in'
    node.wait(lambda: crash in run(node, "why", "crash").stdout, "the time between two starts")
    assert "no water" in run(node, "why", "sick").stdout
    assert "has done its work" in run(node, "why", "job").stdout


def test_why_names_file_and_line_of_a_refused_manifest(node):
    node.write("bad.yaml", PODS.split("---")[2].replace("name: job", "name: bad").replace("image: host", "image: ''"))
    node.wait(lambda: (node.run_dir / "manifests" / "bad.yaml.txt").exists(), "the verdict")
    node.wait(lambda: "refused" in (node.run_dir / "manifests" / "bad.yaml.txt").read_text(), "the refusal")
    text = run(node, "why", "bad").stdout
    assert "There is no pod bad: its manifest" in text
    assert "at line" in text
    assert "spec.containers[0].image: Required value" in text
    failed = run(node, "wait", "--for=condition=Ready", "bad", "--timeout=20s", code=1)
    assert "is refused" in failed.stderr
    status = run(node, "status", code=1).stdout
    assert "manifest refused" in status
    (node.manifests / "bad.yaml").unlink()
    node.wait(lambda: not (node.run_dir / "manifests" / "bad.yaml.txt").exists(), "the verdict to go")


def test_why_tells_the_memory_peak(node):
    text = (
        PODS.split("---")[2]
        .replace("name: job", "name: greedy")
        .replace(
            "    image: host",
            """    image: host
    resources: {limits: {memory: 24Mi}}""",
        )
    )
    node.write("greedy.yaml", re.sub(r"command: .*", "command: [python3, -c, 'x = bytearray(200 << 20)']", text))
    run(node, "wait", "--for=jsonpath={.status.phase}=Failed", "greedy")
    why = run(node, "why", "greedy").stdout
    assert re.search(r"for want of memory \(its limit is 24Mi, it had used up to 2[0-4]Mi\)", why), why
    (node.manifests / "greedy.yaml").unlink()
    run(node, "wait", "--for=delete", "greedy")


def test_events(node):
    text = run(node, "events", "--for", "pod/sick", "--types=Warning").stdout
    assert "Readiness probe failed: no water" in text
    assert "Pod/sick-n1" in text
    assert "Normal" not in text
    assert "(x" in run(node, "events", "--for", "pod/crash").stdout
    assert json.loads(run(node, "events", "-o", "json").stdout)["items"]


def test_events_watch(node):
    with running(node, "events", "-w") as process:
        read_until(process.stdout, b"Pod/web-n1")
        node.write("later.yaml", PODS.split("---")[2].replace("name: job", "name: later"))
        read_until(process.stdout, b"Pod/later-n1")
    (node.manifests / "later.yaml").unlink()
    run(node, "wait", "--for=delete", "later")


def test_status_is_one_page(node):
    crash = "CrashLoopBackOff: crash-n1 is not well"
    node.wait(lambda: crash in run(node, "status", code=1).stdout, "the time between two starts")
    text = run(node, "status", code=1).stdout
    assert re.search(r"^Daemon +running, .*pid \d+, up ", text, re.MULTILINE)
    assert re.search(r"^Pods +6: ", text, re.MULTILINE)
    assert re.search(rf"^Manifests +{node.manifests}: \d+ files?, ", text, re.MULTILINE)
    assert re.search(rf"^Socket +{node.run_dir}/minikubelet.sock$", text, re.MULTILINE)
    assert re.search(rf"^Logs +{node.log_dir}/pods$", text, re.MULTILINE)


def test_version_of_both(node):
    assert run(node, "version").stdout.startswith("minikubelet ")
    assert json.loads(run(node, "version", "-o", "json").stdout)["clientVersion"]


# logs, timeline


def test_logs_tail_and_containers(node):
    assert run(node, "logs", "job").stdout == "".join(f"line {n}\n" for n in range(1, 6))
    assert run(node, "logs", "job", "--tail=2").stdout == "line 4\nline 5\n"
    assert run(node, "logs", "web", "-c", "page").stdout == "made the page\n"
    stamped = run(node, "logs", "web/page", "--timestamps").stdout
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-](?!00:00)\d\d:\d\d) made the page\n", stamped)
    assert "Defaulted container" in run(node, "logs", "web").stderr
    assert run(node, "logs", "crash", "-p").stdout == "something is missing\n"
    text = run(node, "logs", "web", "--all-containers", "--tail=1").stdout
    assert "[pod/web-n1/helper] helper" in text
    assert "[pod/web-n1/page] made the page" in text
    assert "[pod" not in run(node, "logs", "web", "--all-containers", "--prefix=false").stdout
    assert run(node, "logs", "job", "--limit-bytes=6").stdout == "line 1"
    assert run(node, "logs", "job", "--since=1s").stdout == ""


def test_logs_that_cannot_be(node):
    assert "its containers are: page server helper" in run(node, "logs", "web", "-c", "x", code=1).stderr
    assert "it has not restarted yet" in run(node, "logs", "web", "-c", "helper", "-p", code=1).stderr


def test_logs_follow_over_a_restart_until_the_pod_ends(node):
    text = (
        PODS.split("---")[2]
        .replace("name: job", "name: twice")
        .replace("Never", "OnFailure")
        .replace(
            "for n in 1 2 3 4 5; do echo line $n; done",
            "echo run; [ -e /d/x ] && exit 0; until [ -e /d/go ]; do sleep 0.05; done; touch /d/x; exit 1",
        )
        .replace("    image: host", "    image: host\n    volumeMounts: [{name: d, mountPath: /d}]")
        .replace("spec:", "spec:\n  volumes: [{name: d, emptyDir: {}}]")
    )
    node.write("twice.yaml", text)
    run(node, "wait", "--for=create", "twice")
    with running(node, "logs", "-f", "twice") as process:
        read_until(process.stdout, b"run\n")
        volume = node.state_dir / "pods" / node.pod("twice")["metadata"]["uid"] / "volumes"
        (volume / "kubernetes.io~empty-dir" / "d" / "go").touch()
        output, _ = process.communicate(timeout=60)
        assert (output, process.returncode) == (b"run\n", 0)
    (node.manifests / "twice.yaml").unlink()
    run(node, "wait", "--for=delete", "twice")


def test_logs_follow_by_label_picks_up_new_pods(node):
    with running(node, "logs", "-f", "-l", "team=a") as process:
        for name in ("one", "two"):
            one = PODS.split("---")[2].replace("name: job", f"name: {name}").replace("app: job", "team: a")
            node.write(f"{name}.yaml", one)
            read_until(process.stdout, f"[pod/{name}-n1/main] line 5".encode())
    for name in ("one", "two"):
        (node.manifests / f"{name}.yaml").unlink()
        run(node, "wait", "--for=delete", name)


def test_get_of_several_kinds(node):
    blocks = run(node, "get", "pods,nodes,events,namespaces").stdout.split("\n\n")
    assert [block.split(None, 1)[0] for block in blocks] == ["NAME", "NAME", "LAST", "NAME"]
    assert re.search(r"^pod/web-n1 +2/2 +Running", blocks[0], re.MULTILINE)
    assert re.search(r"^node/n1 +Ready", blocks[1], re.MULTILINE)
    assert "event/" not in blocks[2]
    assert re.search(r"^namespace/default", blocks[3], re.MULTILINE)
    kinds = {one["kind"] for one in json.loads(run(node, "get", "po,no", "-o", "json").stdout)["items"]}
    assert kinds == {"Pod", "Node"}
    assert "only be listed" in run(node, "get", "po,no", "-w", code=2).stderr
    assert run(node, "get", "all", "-o", "name").stdout == run(node, "get", "pods", "-o", "name").stdout


def test_wait_for_all(node):
    done = run(node, "wait", "--for=condition=PodScheduled", "pods", "--all")
    assert done.stdout.splitlines()[0] == "pod/count-n1 condition met"
    assert len(done.stdout.splitlines()) == 6
    assert "leave one out" in run(node, "wait", "--for=create", "web", "--all", code=2).stderr


def test_timeline_is_in_order(node):
    lines = run(node, "timeline", "crash").stdout.splitlines()
    assert any("something is missing" in line for line in lines)
    assert any("container ended with exit code 3 (Error)" in line for line in lines)
    assert any("BackOff" in line for line in lines)
    seconds = [line[:8] for line in lines]
    assert seconds == sorted(seconds)


def test_timeline_tells_changes_of_probes_and_not_every_run(node):
    def lines():
        return [line for line in run(node, "timeline", "web", "--no-logs").stdout.splitlines() if " probe " in line]

    node.wait(lambda: any(re.search(r"readiness probe succeeded \(and \d+ more times", one) for one in lines()), "runs")
    # A probe that is too slow on a busy machine may fail in between; but no success follows upon a success.
    good = ["readiness probe succeeded" in one for one in lines()]
    assert (True, True) not in list(pairwise(good))
    sick = run(node, "timeline", "sick", "--no-logs").stdout
    assert re.search(r" probe +readiness probe failed: no water", sick)
    assert sick.count("Unhealthy") == 0  # told by the probe's own history


def test_memory_peak_of_what_runs(node):
    options = argparse.Namespace(run_dir=str(node.run_dir))
    facts = client.fetch(options, "/minikubelet/v1/namespaces/default/pods/web-n1/facts")
    peaks = [one.get("memoryPeakBytes") for one in facts["instances"] if one["container"] == "server"]
    assert peaks[0] > 1 << 20
    assert re.search(r"memory peak: +\d+Mi", run(node, "describe", "pod", "web").stdout)


def test_timeline_follows(node):
    with running(node, "timeline", "-f", "--since=1s", "web") as process:
        read_until(process.stdout, b"helper")
        read_until(process.stdout, b"helper")


# exec, attach, cp, port-forward, debug


@pytest.mark.parametrize("code", [0, 3])
def test_exec_gives_output_and_exit_code(node, code):
    done = run(node, "exec", "web", "--", "sh", "-c", f"cat /www/index.html; echo oops >&2; exit {code}", code=code)
    assert done.stdout == "hello\n"
    assert "oops\n" in done.stderr


def test_exec_passes_input(node):
    text = "x" * 300_000
    done = run(node, "exec", "-qi", "web", "-c", "helper", "--", "sh", "-c", "wc -c; echo done", text=text)
    assert done.stdout.split() == ["300000", "done"]


def test_exec_that_cannot_be(node):
    assert "minikubelet exec web -- ls" in run(node, "exec", "web", "ls", code=2).stderr
    assert "no-such-program" in run(node, "exec", "-q", "web", "--", "no-such-program", code=1).stderr
    assert run(node, "exec", "job", "--", "true", code=1).stderr.startswith("minikubelet: ")


class Terminal:
    """A verb on a terminal of its own, which has its size before the verb begins."""

    def __init__(self, node, *arguments):
        begin, ready = os.pipe()
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.close(ready)
            os.read(begin, 1)
            cut = arguments.index("--") if "--" in arguments else len(arguments)
            words = ["-m", "minikubelet", *arguments[:cut], *node.roots, *arguments[cut:]]
            os.execv(sys.executable, [sys.executable, *words])
        self.resize(24, 80)
        self.before = termios.tcgetattr(self.descriptor)
        for one in (begin, ready):
            os.close(one)

    def resize(self, lines, columns):
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text):
        os.write(self.descriptor, text.encode())

    def wait(self):
        done = select.select([pidfd := os.pidfd_open(self.pid)], [], [], 40)[0]
        os.close(pidfd)
        if not done:
            os.kill(self.pid, signal.SIGKILL)

    def end(self):
        self.wait()
        _, status = os.waitpid(self.pid, 0)
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(status)


def test_exec_on_a_terminal(node):
    shell = Terminal(node, "exec", "-itq", "web", "--", "sh")
    read_until(shell.descriptor, b"# ")
    shell.type("stty size; echo $((6*7))\r")
    text = read_until(shell.descriptor, b"42\r\n")
    assert "24 80" in text
    shell.resize(40, 100)
    shell.type('until [ "$(stty size)" != "24 80" ]; do sleep 0.05; done; stty size; exit 5\r')
    read_until(shell.descriptor, b"40 100")
    assert shell.end() == 5


def test_interrupt_on_a_terminal_reaches_the_command(node):
    shell = Terminal(node, "exec", "-itq", "web", "--", "sh", "-c", "trap 'echo caught; exit 7' INT; yes x")
    read_until(shell.descriptor, b"x\r\nx")  # a signal before the shell has begun the command would only be noted
    shell.type("\x03")
    read_until(shell.descriptor, b"caught")
    assert shell.end() == 7


def test_attach_and_detach(node):
    session = Terminal(node, "attach", "-it", "echo")
    read_until(session.descriptor, b"Ctrl-P Ctrl-Q leaves the container running")
    session.type("hello\r")
    read_until(session.descriptor, b"got hello")
    session.type("\x10")  # as people press keys: one after the other
    session.type("again\r")
    read_until(session.descriptor, b"again")
    session.type("\x10")
    session.type("\x11")
    assert session.end() == 0
    assert json.loads(run(node, "get", "pod", "echo", "-o", "json").stdout)["status"]["phase"] == "Running"


def test_attach_to_what_has_no_terminal_leaves_ours_as_it_is(node):
    session = Terminal(node, "attach", "-it", "web", "-c", "server")
    read_until(session.descriptor, b"has no stdin")
    read_until(session.descriptor, b"GET / HTTP")
    session.type("\x03")
    assert session.end() == 130


def test_terminal_is_given_back_as_it_was_when_the_client_is_ended(node):
    session = Terminal(node, "exec", "-itq", "web", "--", "sh", "-c", "echo here; exec cat")
    read_until(session.descriptor, b"here")
    raw = termios.tcgetattr(session.descriptor)
    assert raw[3] & (termios.ECHO | termios.ICANON) == 0
    os.kill(session.pid, signal.SIGTERM)
    session.wait()
    after = termios.tcgetattr(session.descriptor)
    assert session.end() == 128 + signal.SIGTERM
    assert after[:4] == session.before[:4]


def test_cp_both_ways(node, tmp_path):
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "data").write_bytes(os.urandom(3 << 20))
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    run(node, "cp", str(tree), "web:/tmp")
    run(node, "cp", "web:/tmp/tree", str(tmp_path / "back"), "-c", "server")
    assert (tmp_path / "back" / "sub" / "data").read_bytes() == (tree / "sub" / "data").read_bytes()
    assert (tmp_path / "back" / "run.sh").stat().st_mode & 0o777 == 0o755
    run(node, "cp", "default/web:/www/index.html", str(tmp_path))
    assert (tmp_path / "index.html").read_text() == "hello\n"
    run(node, "cp", str(tmp_path / "index.html"), "web:/tmp/other-name")
    assert run(node, "exec", "-q", "web", "--", "cat", "/tmp/other-name").stdout == "hello\n"
    assert "No such file" in run(node, "cp", "web:/nope", str(tmp_path), code=1).stderr
    assert "one of both must be in a pod" in run(node, "cp", "a", "b", code=2).stderr


def test_port_forward(node):
    with running(node, "port-forward", "web", ":http", ":80") as process:
        text = read_until(process.stdout, b"-> 80\n")
        port = int(re.search(r"127\.0\.0\.1:(\d+) -> 80", text)[1])
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
                assert answer.read() == b"hello\n"
        assert f"Handling connection for {port}" in read_until(process.stdout, b"Handling")


def test_port_forward_passes_on_that_a_client_has_said_all(node):
    """The pod is on the machine's own network: ports are forwarded there too."""
    there = run(node, "exec", "count", "--", "cat", "/tmp/port").stdout
    with running(node, "port-forward", "count", f":{there}") as process:
        port = int(re.search(r"127\.0\.0\.1:(\d+)", read_until(process.stdout, b"->"))[1])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(b"x" * 3_000_000)
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(100), b""))
    assert answer == b"3000000"


def test_port_forward_to_nobody_tells(node):
    with running(node, "port-forward", "web", ":81") as process:
        port = int(re.search(r"127\.0\.0\.1:(\d+)", read_until(process.stdout, b"-> 81\n"))[1])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            assert connection.recv(10) == b""
        assert "81" in read_until(process.stderr, b"error forwarding port")


def test_port_forward_where_somebody_listens(node):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        done = run(node, "port-forward", "--address=127.0.0.1", "web", f"{number}:80", code=1)
        assert "any free one with :80" in done.stderr


def test_debug_steps_into_the_namespaces(node):
    pod = node.pod("web")
    text = run(node, "debug", "web", "--", "sh", "-c", "hostname; ip -br addr show eth0").stdout
    assert text.startswith("web-n1\n")
    assert pod["status"]["podIP"] in text
    inside = run(node, "debug", "web", "-c", "server", "--", "sh", "-c", "cat /www/index.html; cat /proc/1/cmdline")
    assert inside.stdout.startswith("hello\n")
    assert "http.server" in inside.stdout
    run(node, "debug", "web", "--", "sh", "-c", "exit 9", code=9)
    assert "not found" in run(node, "debug", "web", "--", "no-such-program", code=127).stderr
    assert "does not run" in run(node, "debug", "job", "-c", "main", code=1).stderr


# wait, names, completion


def test_wait_tells_what_it_waited_for(node):
    assert run(node, "wait", "--for=condition=Ready", "pod/web").stdout == "pod/web-n1 condition met\n"
    late = run(node, "wait", "--for=condition=Ready", "sick", "--timeout=1s", code=1)
    assert "timed out waiting for the condition on pods/sick" in late.stderr
    assert "minikubelet why sick" in late.stderr
    assert "has ended" in run(node, "wait", "--for=condition=Ready", "job", code=1).stderr
    run(node, "wait", "--for=condition=Ready", "-l", "app=web", "--timeout=0")


def test_wait_for_delete_returns_when_it_is_gone(node):
    node.write("short.yaml", PODS.split("---")[3].replace("name: sick", "name: short"))
    run(node, "wait", "--for=create", "short")
    (node.manifests / "short.yaml").unlink()
    run(node, "wait", "--for=delete", "short")
    assert node.pod("short") is None


# The node and its use


def test_node_and_namespaces(node):
    lines = run(node, "get", "nodes", "-o", "wide").stdout.splitlines()
    assert lines[0].split()[:4] == ["NAME", "STATUS", "ROLES", "AGE"]
    assert lines[1].split()[:2] == ["n1", "Ready"]
    assert run(node, "get", "ns", "-o", "name").stdout.split() == ["namespace/default"]
    text = run(node, "describe", "node").stdout
    assert "Name:               n1" in text
    assert re.search(r"^  Ready +True", text, re.MULTILINE)
    assert re.search(
        r"^  default +web-n1 +10m \(\d+%\) +0 \(0%\) +128Mi \(\d+%\) +128Mi \(\d+%\) +\d+s?", text, re.MULTILINE
    )
    assert re.search(r"^Allocated resources:$", text, re.MULTILINE)
    assert re.search(r"^  memory +\d+Mi \(\d+%\) +\d+Mi \(\d+%\)$", text, re.MULTILINE)


def test_top(node):
    lines = run(node, "top", "pods", "-l", "app=web").stdout.splitlines()
    assert lines[0].split() == ["NAME", "CPU(cores)", "MEMORY(bytes)"]
    name, cpu, memory = lines[1].split()
    assert name == "web-n1"
    assert cpu.endswith("m")
    assert int(memory.removesuffix("Mi")) > 1
    rows = [line.split()[:2] for line in run(node, "top", "containers", "web", "--no-headers").stdout.splitlines()]
    assert sorted(rows) == [["web-n1", "helper"], ["web-n1", "server"]]
    assert run(node, "top", "pods", "--sum").stdout.splitlines()[-1].split()[0] == "sum"
    cells = run(node, "top", "node").stdout.splitlines()[1].split()
    assert cells[0] == "n1"
    assert cells[-1].endswith("%")


def test_describe_shows_use_and_last_results(node):
    text = run(node, "describe", "pod", "web").stdout
    assert re.search(r"^    Use:\n      cpu: +\d+m\n      memory: +\d+Mi\n", text, re.MULTILINE)
    assert re.search(r"^      Last: +success \d+s ago$", text, re.MULTILINE)
    assert re.search(
        r"^      Last: +failure \d+s ago: no water$", run(node, "describe", "pod", "sick").stdout, re.MULTILINE
    )


def test_every_metric_is_in_the_reference(node):
    page = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
    told = set(re.findall(r"`([a-z_]+)`", page.read_text()))
    options = argparse.Namespace(run_dir=str(node.run_dir))
    served = set()
    for path in ("/metrics", "/metrics/probes", "/metrics/resource", "/metrics/cadvisor"):
        served |= set(re.findall(r"^# TYPE (\S+)", client.request(options, path).read().decode(), re.MULTILINE))
    assert len(served) > 30
    assert sorted(served - told) == []
