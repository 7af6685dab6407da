"""How the daemon leaves, with the parts around it replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikubelet.daemon.daemon import Daemon
from minikubelet.daemon.directories import StartupError
from minikubelet.node.settings import Settings
from minikubelet.runtime.network.errors import NetworkError

pytestmark = pytest.mark.anyio


def settings_below(path: Path) -> Settings:
    roots = {f"{name}_dir": str(path / name) for name in ("config", "state", "run", "log")}
    return Settings(**roots, node_name="n")


async def test_a_network_that_cannot_be_removed_keeps_no_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Daemon(settings_below(tmp_path))
    daemon.take_directories()
    removed: list[str] = []

    async def fail(*, remove: bool) -> None:
        raise NetworkError("cannot remove the bridge")

    async def note(*, remove: bool) -> None:
        removed.extend(["control groups"] if remove else [])

    monkeypatch.setattr(daemon.parts.execution.network, "stop", fail)
    monkeypatch.setattr(daemon.parts.execution.cgroups, "stop", note)
    with pytest.raises(NetworkError):
        await daemon.stop(remove_pods=True)
    assert removed == ["control groups"]


async def test_who_finds_the_directories_taken_leaves_the_other_daemons_files_alone(tmp_path: Path) -> None:
    first, second = Daemon(settings_below(tmp_path)), Daemon(settings_below(tmp_path))
    first.take_directories()
    table = tmp_path / "run" / "status.txt"
    table.write_text("the first one's\n")
    with pytest.raises(StartupError):
        await second.start()
    await second.stop(remove_pods=False)
    assert table.read_text() == "the first one's\n"
    await first.stop(remove_pods=False)
