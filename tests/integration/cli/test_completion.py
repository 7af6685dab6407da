"""Completion in real shells on a terminal: each Tab asks the running daemon."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: server, image: host, command: [sleep, '1000'], ports: [{containerPort: 8080}]}
  - {name: helper, image: host, command: [sleep, '1000']}
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: elsewhere}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: lonely, image: host, command: [sleep, '1000']}
"""
SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
LOADED = {
    "bash": "source <(minikubelet completion bash)",
    "zsh": "autoload -Uz compinit; compinit -u -D; source <(minikubelet completion zsh)",
    "zsh from fpath": (
        "minikubelet completion zsh >~/_minikubelet; fpath=(~ $fpath); autoload -Uz compinit; compinit -u -D"
    ),
    "fish": "minikubelet completion fish | source",
}
BECOMES = {
    "minikubelet timel": "minikubelet timeline",
    "minikubelet -n else": "minikubelet -n elsewhere",
    "minikubelet logs --time": "minikubelet logs --timestamps",
    "minikubelet logs we": "minikubelet logs web",
    "minikubelet logs web/s": "minikubelet logs web/server",
    "minikubelet exec -it web -c h": "minikubelet exec -it web -c helper",
    "minikubelet exec -it -n elsewhere ": "minikubelet exec -it -n elsewhere other",
    "minikubelet -n elsewhere logs other -c ": "minikubelet -n elsewhere logs other -c lonely",
    "minikubelet get no": "minikubelet get nodes",
    "minikubelet get nodes ": "minikubelet get nodes n1",
    "minikubelet get pods -o cus": "minikubelet get pods -o custom-columns=",
    "minikubelet get pods --output=ya": "minikubelet get pods --output=yaml",
    "minikubelet wait --for=condition=R": "minikubelet wait --for=condition=Ready",
    "minikubelet port-forward web ": "minikubelet port-forward web 8080",
    "minikubelet cp we": "minikubelet cp web:",
    "minikubelet explain pod.spec.initC": "minikubelet explain pod.spec.initContainers",
    "minikubelet validate ~/mani": "minikubelet validate ~/manifest.yaml",
    "minikubelet run --standalone ~/dire": "minikubelet run --standalone ~/directory",
}


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, environment)
        self.said = ""

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def words(self, limit_s: float = 30.0) -> list[str]:
        """Return what a `printf '<%s>'` that ends with the word END has printed."""
        deadline = time.monotonic() + limit_s
        while True:
            found = re.findall(r"<([^<>%\r\n]*)>\r?\n", self.said)
            if "END" in found:
                self.said = ""
                return found[: found.index("END")]
            ready, _, _ = select.select([self.terminal], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, self.said
            self.said += os.read(self.terminal, 65536).decode("utf-8", "replace")

    def complete(self, line: str) -> list[str]:
        """Return the words of a line after Tab: printed by the shell itself, so that they are what would run."""
        self.type(f"{line}\t")
        self.type("\x01printf '<%s>\\n' \x05 END\n")
        return [word.removesuffix("/") for word in self.words()]  # zsh takes it off when a space follows

    def close(self) -> None:
        os.close(self.terminal)  # the shell is hung up
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


@pytest.mark.parametrize("name", LOADED)
def test_shell_completes(cluster, tmp_path, name):
    argv = SHELLS[name.split()[0]]
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed")
    cluster.write("pods.yaml", PODS)
    cluster.wait_pod("web", lambda pod: pod["status"]["phase"] == "Running", "the pods")
    (tmp_path / "manifest.yaml").touch()
    (tmp_path / "directory").mkdir()
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TERM": "xterm" if name == "fish" else "dumb",
        "PS1": "$ ",
        "MINIKUBELET_RUN_DIR": str(cluster.run_dir),
        "MINIKUBELET_STATE_DIR": str(cluster.state_dir),
    }
    shell = Shell(argv, environment)
    try:
        shell.type(f"{LOADED[name]}\n")
        shell.type("printf '<%s>\\n' END\n")
        shell.words()
        expected = {line: after.replace("~", str(tmp_path)).split() for line, after in BECOMES.items()}
        found = {line: shell.complete(line) for line in BECOMES}
    finally:
        shell.close()
    assert found == expected
