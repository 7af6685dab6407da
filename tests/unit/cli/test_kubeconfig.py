"""`minikubelet kubeconfig`: what kubectl reads, and the relay that it needs."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import yaml

from minikubelet.cli import main as command_line


def test_configuration_names_the_relay_and_the_socket(capsys):
    assert command_line.main(["kubeconfig", "--server=http://127.0.0.1:9001", "--run-dir=/x"]) == 0
    printed = capsys.readouterr().out
    assert "socat TCP-LISTEN:9001,bind=127.0.0.1,fork UNIX-CONNECT:/x/minikubelet.sock" in printed
    config = yaml.safe_load(printed)
    assert (config["apiVersion"], config["kind"], config["current-context"]) == ("v1", "Config", "minikubelet")
    assert config["clusters"] == [{"name": "minikubelet", "cluster": {"server": "http://127.0.0.1:9001"}}]


@pytest.mark.parametrize("server", ["127.0.0.1:8001", "https://h:1", "http://h", "http://h:x", "unix:///run/s"])
def test_what_is_no_address_of_a_relay_is_refused(server, capsys):
    assert command_line.main(["kubeconfig", "--server", server]) == 2
    assert server in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here")
def test_kubectl_takes_it(capsys, tmp_path):
    assert command_line.main(["kubeconfig"]) == 0
    (tmp_path / "config").write_text(capsys.readouterr().out)
    command = ["kubectl", f"--kubeconfig={tmp_path / 'config'}", "config", "view", "--minify", "-o"]
    shown = subprocess.run(
        [*command, "jsonpath={.clusters[0].cluster.server} {.contexts[0].context.namespace}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert shown.stdout == "http://127.0.0.1:8001 default"
