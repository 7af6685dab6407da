"""What the daemon is told, from flags and variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikubelet.node.settings import SettingsError, load_settings


def test_relative_paths_are_those_of_where_the_daemon_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = {"config_dir": "config", "state_dir": "a/state", "run_dir": "./run", "log_dir": "log"}
    found = load_settings(flags, {"MINIKUBELET_STATIC_POD_PATH": "pod.yaml"})
    assert found.state_dir == str(tmp_path / "a/state")
    assert (found.run_dir, found.log_dir) == (str(tmp_path / "run"), str(tmp_path / "log"))
    assert found.manifest_dir == str(tmp_path / "pod.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("maxPods: -1", "maxPods: -1 is a negative number"),
        ("containerLogMaxFiles: 1", "containerLogMaxFiles: 1 is not > 1"),
        (
            "crashLoopBackOff: {maxContainerRestartPeriod: 0s}",
            "maxContainerRestartPeriod: 0 s is not between 1 s and 300 s",
        ),
        ("crashLoopBackOff: {maxContainerRestartPeriod: 6m}", "maxContainerRestartPeriod: 360 s is not between"),
        ("shutdownGracePeriod: 500ms", "shutdownGracePeriod: 0.5 s is neither 0 nor at least 1 s"),
        ("kind: Pod", "config.yaml:1:1: kind: 'Pod' is not KubeletConfiguration"),
        ("apiVersion: v1", "apiVersion: 'v1' is not kubelet.config.k8s.io/v1beta1"),
    ],
)
def test_what_the_kubelet_refuses(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SettingsError) as raised:
        load_settings({"config_dir": str(tmp_path)}, {})
    assert message in str(raised.value)


def test_types_that_a_kubelets_configuration_has(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 0\n"
    )
    found = load_settings({"config_dir": str(tmp_path)}, {"MINIKUBELET_FILE_CHECK_FREQUENCY": "0s"})
    assert (found.max_pods, found.file_check_frequency) == (0, 20.0)
