"""When the daemon is down, its files are broken, or the user may not."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys

import pytest

import minikubelet.cli
from minikubelet.cli.main import main

pytestmark = pytest.mark.root

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: host, command: [sh, -c, 'echo hello; sleep 1000']}
"""


def test_without_a_daemon_files_answer(node):
    node.write("web.yaml", POD)
    assert node.cli("wait", "--for=condition=Ready", "web").returncode == 0
    node.wait(lambda: node.cli("logs", "web").stdout == "hello\n", "output")
    node.kill()
    try:
        for arguments, words in (
            (["get", "pods"], "web-n1"),
            (["get", "pods", "-l", "app=web", "-o", "name"], "pod/web-n1"),
            (["get", "pod", "web", "-o", "jsonpath={.status.phase}"], "Running"),
            (["describe", "pod", "web"], "Container started"),
            (["logs", "web"], "hello"),
            (["why", "web"], "web-n1 is well"),
            (["events"], "Started"),
            (["timeline", "web"], "hello"),
            (["debug", "web", "--", "hostname"], "web-n1"),
        ):
            done = cli(node, arguments)
            assert done.returncode == 0, done.stderr
            assert words in done.stdout
            assert "cannot talk to the daemon: nothing listens on" in done.stderr
        assert node.cli("get", "pods", "-l", "app=db").stdout == ""
        status = node.cli("status")
        assert (status.returncode, "cannot talk to the daemon" in status.stdout) == (1, True)
        for arguments in (["get", "nodes"], ["exec", "web", "--", "true"], ["get", "pods", "-w"], ["top", "pods"]):
            done = cli(node, arguments)
            assert done.returncode == 1
            assert "systemctl start minikubelet" in done.stderr
            assert "Traceback" not in done.stderr

        path = node.run_dir / "status" / "default_broken-n1.json"
        path.write_text('{"metadata": {"na')
        done = node.cli("get", "pods")
        assert "web-n1" in done.stdout
        assert f"cannot read {path}" in done.stderr
        path.unlink()
    finally:
        node.start()


def test_a_user_without_rights_is_told_so(node):
    os.chmod(node.run_dir / "status", 0o700)
    code, _, err = as_nobody(["get", "pods", *node.roots])
    assert (code, "only root may" in err) == (1, True)
    os.chmod(node.run_dir / "status", 0o755)

    code, _, err = as_nobody(["exec", "web", *node.roots, "--", "true"])
    assert code == 1
    assert "only root may" in err
    assert "sudo" in err


def test_the_run_directory_alone_leads_to_the_others(node):
    """As `make run` tells it, and also when the daemon has gone."""
    node.write("web.yaml", POD)
    node.wait(lambda: node.cli("logs", "web").stdout == "hello\n", "output")

    def ask(*arguments: str) -> str:
        command = [sys.executable, "-m", "minikubelet", f"--run-dir={node.run_dir}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout

    for down in (False, True):
        if down:
            node.kill()
        assert ask("logs", "web") == "hello\n"
        assert ask("debug", "web", "--", "hostname") == "web-n1\n"
        assert "Container started" in ask("describe", "pod", "web")
        status = ask("status")
        assert re.search(rf"^Config +{node.base}/config/config.yaml", status, re.MULTILINE)
        assert re.search(rf"^Logs +{node.log_dir}/pods$", status, re.MULTILINE)
        checks = {one["check"]: one for one in json.loads(ask("doctor", "-o", "json"))["checks"]}
        assert checks["pods"]["found"] == "1 with a pause process"
        assert str(node.bridge) not in checks["leftover cgroups"]["found"]
    node.start()


def cli(node, arguments):
    """Run the command line with the node's directories before what stands behind `--`."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    command = [sys.executable, "-m", "minikubelet", *arguments[:cut], *node.roots, *arguments[cut:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def as_nobody(arguments):
    """Run the command line as a user without rights; return its exit code, output and errors.

    All of it is loaded before: this checkout and Python may lie where only root may read.
    """
    for module in pkgutil.iter_modules(minikubelet.cli.__path__, "minikubelet.cli."):
        importlib.import_module(module.name)
    out_reader, out_writer = os.pipe()
    err_reader, err_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(out_writer, 1)
        os.dup2(err_writer, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        code = 99
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            code = main(arguments)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(out_writer)
    os.close(err_writer)
    with os.fdopen(out_reader) as out, os.fdopen(err_reader) as err:
        texts = out.read(), err.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), *texts
