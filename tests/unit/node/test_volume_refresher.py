"""Volumes are refreshed pod by pod: what goes wrong with one pod's stops nothing."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from minikubelet.api.types import Container, ObjectMeta, Pod, PodSpec
from minikubelet.lifecycle.observed import PodUID
from minikubelet.node.services import Recorder
from minikubelet.node.volume_refresher import VolumeRefresher
from minikubelet.runtime.volumes.manager import Volumes

pytestmark = pytest.mark.anyio


def make_pod(name: str) -> Pod:
    meta = ObjectMeta(name=name, namespace="default", uid=name)
    return Pod(api_version="v1", kind="Pod", metadata=meta, spec=PodSpec(containers=[Container(name="c", image="i")]))


class FailingVolumes:
    """Cannot refresh those of one pod, for a reason that nobody thought of."""

    def __init__(self) -> None:
        self.refreshed: list[str] = []

    def refresh(self, pod: Pod) -> None:
        self.refreshed.append(pod.metadata.name)
        if pod.metadata.name == "bad":
            raise ValueError("nobody thought of this")


async def test_one_pods_failure_does_not_end_the_refresh_of_volumes() -> None:
    volumes = FailingVolumes()
    rounds = asyncio.Queue[None]()

    def wake(uid: PodUID) -> None:
        if uid == "good":
            rounds.put_nowait(None)

    refresher = VolumeRefresher(
        cast("Volumes", volumes),
        cast("Recorder", cast("Any", None)),
        pods=lambda: [make_pod("bad"), make_pod("good")],
        wake=wake,
    )
    task = asyncio.create_task(refresher.run())
    async with asyncio.timeout(10):
        for _ in range(2):
            refresher.note_change()
            await rounds.get()
    task.cancel()
    assert volumes.refreshed == ["bad", "good", "bad", "good"]
