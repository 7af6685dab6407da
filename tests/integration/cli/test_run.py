"""`run --standalone`: its table on a terminal of any width, its lines elsewhere, and nothing left at the end."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

pytestmark = pytest.mark.root

POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: host, command: [sleep, '1000']}
"""


def command(node):
    return [
        sys.executable, "-m", "minikubelet", "run", "--standalone", str(node.manifests), "--node-name=n1",
        f"--bridge={node.bridge}", f"--pod-cidr={node.cidr}",
    ]  # fmt: skip


class Screen:
    """What a terminal shows, as far as the table's escape sequences go."""

    def __init__(self, descriptor, columns, lines):
        self.descriptor = descriptor
        self.rows = []
        self.resize(columns, lines)

    def resize(self, columns, lines):
        self.columns = columns
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def wait(self, holds, limit_s=40.0):
        deadline = time.monotonic() + limit_s
        while not holds(self.rows):
            ready, _, _ = select.select([self.descriptor], [], [], max(0, deadline - time.monotonic()))
            assert ready, self.rows
            self._feed(os.read(self.descriptor, 65536).decode("utf-8", "replace"))
        return self.rows

    def _feed(self, text):
        for frame in text.split("\x1b[H")[1:]:
            plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", frame)
            self.rows = [line.rstrip() for line in plain.split("\r\n")]


def test_table_on_a_narrow_terminal(idle_node, tmp_path, monkeypatch):
    node = idle_node
    before = node.leftovers()  # of a test run with the same numbers that was killed
    node.write("one.yaml", POD.replace("NAME", "one"))
    pid, descriptor = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.environ.update({"NO_COLOR": "1", "TERM": "xterm"})
        os.environ.pop("COLUMNS", None)
        os.execv(sys.executable, command(node))
    try:
        screen = Screen(descriptor, 40, 20)
        rows = screen.wait(lambda rows: any(re.search(r"one-n1 .*Running", row) for row in rows))
        assert max(len(row) for row in rows) <= 40
        assert any(row.split() == ["NAME", "READY", "STATUS"] or "NAME" in row for row in rows)
        node.write("a-second-pod-with-a-long-name.yaml", POD.replace("NAME", "a-second-pod-with-a-long-name-indeed"))
        rows = screen.wait(lambda rows: sum("Running" in row for row in rows) == 2)
        assert max(len(row) for row in rows) <= 40
        screen.resize(110, 20)
        rows = screen.wait(lambda rows: any("a-second-pod-with-a-long-name-indeed-n1" in row for row in rows))
        assert any(node.cidr.rsplit(".", 1)[0] in row for row in rows)
        node.write("bad.yaml", "kind: Pod\napiVersion: v1\nmetadata: {name: bad}\nspec: {}\n")
        screen.wait(lambda rows: any("manifest refused" in row for row in rows))
        (node.manifests / "bad.yaml").chmod(0o666)
        rows = screen.wait(lambda rows: "writable by anybody" in " ".join(rows))
        assert [row for row in rows if "timestamp=" in row] == []  # the log does not tear the table
        for one in node.manifests.glob("*.yaml"):
            one.unlink()
        screen.wait(lambda rows: any("no pods yet" in row for row in rows))
        os.kill(pid, signal.SIGINT)
        data = b""
        while True:
            try:
                more = os.read(descriptor, 65536)
            except OSError:
                break
            if not more:
                break
            data += more
        assert b"stopped, nothing is left" in data
    finally:
        os.kill(pid, signal.SIGTERM)
        _, status = os.waitpid(pid, 0)
        os.close(descriptor)
    assert os.waitstatus_to_exitcode(status) == 0
    assert [one for one in node.leftovers() if one not in before] == []
    assert not (tmp_path / ".run").exists()


def test_lines_where_there_is_no_terminal(idle_node, tmp_path):
    node = idle_node
    before = node.leftovers()  # of a test run with the same numbers that was killed
    node.write("one.yaml", POD.replace("NAME", "one"))
    process = subprocess.Popen(command(node), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("default/one-n1: Running, 1/1 ready"):
                break
        (node.manifests / "one.yaml").unlink()
        for line in process.stdout:
            lines.append(line)
            if line == "default/one-n1: gone\n":
                break
    finally:
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    text = "".join([*lines, rest])
    assert "\x1b" not in text
    assert text.count("Running, 1/1 ready") == 1
    assert text.endswith("stopped, nothing is left\n")
    assert (process.returncode, "Traceback" in errors) == (0, False)
    assert [one for one in node.leftovers() if one not in before] == []


def test_start_that_fails_says_so_and_not_that_all_went_well(idle_node, tmp_path):
    done = subprocess.run(
        [*command(idle_node)[:-1], "--pod-cidr=nonsense"], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert done.returncode != 0
    assert "nothing is left" not in done.stdout
    assert done.stderr.startswith("minikubelet: ")
    assert len(done.stderr.splitlines()) == 1


def test_what_is_told_of_a_node_that_was_killed_is_what_it_was_started_with(idle_node, tmp_path):
    node = idle_node
    before = node.leftovers()  # of a test run with the same numbers that was killed
    node.write("one.yaml", POD.replace("NAME", "one"))
    process = subprocess.Popen(command(node), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "one-n1: Running" in line:
            break
    process.kill()
    process.wait()
    process.stdout.close()
    base = tmp_path / ".run"
    roots = [f"--{name}-dir={base / name}" for name in ("config", "state", "run", "log")]

    def say(verb, *more, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "minikubelet", verb, *roots, *more], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    try:
        assert f"Manifests  {node.manifests}: 1 file, 1 accepted" in say("status", code=1)
        checks = {one["check"]: one["found"] for one in json.loads(say("doctor", "-o", "json"))["checks"]}
        assert checks["manifests"] == f"{node.manifests}, 1 entries"
        assert checks["leftover cgroups"] == "none"
        said = subprocess.run(
            [sys.executable, "-m", "minikubelet", f"--run-dir={base / 'run'}", "delete"], capture_output=True, text=True
        )
        assert str(node.manifests) in said.stderr
    finally:
        drained = say("drain")
        # The same command takes away what is left of the node.
        process = subprocess.Popen(command(node), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        assert "Ctrl-C" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert "pod default/one-n1 evicted" in drained
    assert [one for one in node.leftovers() if one not in before] == []
