"""The daemon's own loops, with the parts around them replaced."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from minikubelet.api.types import Container, ObjectMeta, Pod, PodSpec
from minikubelet.daemon.daemon import Daemon
from minikubelet.node.settings import Settings
from minikubelet.runtime.network.errors import NetworkError

pytestmark = pytest.mark.anyio


def make_pod(name: str) -> Pod:
    meta = ObjectMeta(name=name, namespace="default", uid=name)
    return Pod(api_version="v1", kind="Pod", metadata=meta, spec=PodSpec(containers=[Container(name="c", image="i")]))


async def test_one_pods_failure_does_not_end_the_refresh_of_volumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = {f"{name}_dir": str(tmp_path / name) for name in ("config", "state", "run", "log")}
    daemon = Daemon(Settings(**roots, node_name="n"))
    refreshed: list[str] = []
    every = asyncio.Event()
    expected = ["bad", "good", "bad", "good"]

    def refresh(pod: Pod) -> bool:
        refreshed.append(pod.metadata.name)
        if pod.metadata.name == "bad":
            raise ValueError("nobody thought of this")
        return True

    def wake(uid: Any) -> None:
        if refreshed == expected[:2] and uid == "good":
            daemon.refresher.note_change()
        if refreshed == expected:
            every.set()

    monkeypatch.setattr(daemon.volumes, "refresh", refresh)
    monkeypatch.setattr(daemon.pods, "pods", lambda: [make_pod("bad"), make_pod("good")])
    monkeypatch.setattr(daemon.pods, "wake", wake)
    task = asyncio.create_task(daemon.refresher.run())
    daemon.refresher.note_change()
    async with asyncio.timeout(10):
        await every.wait()
    task.cancel()
    assert refreshed == expected


async def test_a_network_that_cannot_be_removed_keeps_no_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = {f"{name}_dir": str(tmp_path / name) for name in ("config", "state", "run", "log")}
    daemon = Daemon(Settings(**roots, node_name="n"))
    (tmp_path / "run").mkdir()
    removed: list[str] = []

    async def fail(*, remove: bool) -> None:
        raise NetworkError("cannot remove the bridge")

    async def note(*, remove: bool) -> None:
        removed.extend(["control groups"] if remove else [])

    monkeypatch.setattr(daemon.network, "stop", fail)
    monkeypatch.setattr(daemon.cgroups, "stop", note)
    with pytest.raises(NetworkError):
        await daemon.stop(remove_pods=True)
    assert removed == ["control groups"]
