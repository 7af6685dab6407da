"""What the daemon is told, from flags and variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikubelet.node.settings import load_settings


def test_relative_paths_are_those_of_where_the_daemon_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = {"config_dir": "config", "state_dir": "a/state", "run_dir": "./run", "log_dir": "log"}
    found = load_settings(flags, {"MINIKUBELET_STATIC_POD_PATH": "pod.yaml"})
    assert found.state_dir == str(tmp_path / "a/state")
    assert (found.run_dir, found.log_dir) == (str(tmp_path / "run"), str(tmp_path / "log"))
    assert found.manifest_dir == str(tmp_path / "pod.yaml")
