"""The record of each pod, `pod.json`, for a daemon that comes when its manifest has gone."""

from __future__ import annotations

import contextlib
import os

import msgspec
import structlog

from minikubelet.api.support import unhonoured_fields
from minikubelet.api.types import Pod
from minikubelet.lifecycle.observed import PodUID
from minikubelet.lifecycle.pods import pod_key
from minikubelet.linux.files import write_atomic
from minikubelet.node.health import Health, describe, record_problem
from minikubelet.node.services import Recorder

log = structlog.get_logger(__name__)


class PodRecords:
    """Owner of `<state>/pods/<uid>/pod.json`."""

    def __init__(self, *, pods_dir: str, recorder: Recorder, health: Health) -> None:
        """Create it; no file is touched."""
        self._pods_dir = pods_dir
        self._recorder = recorder
        self._health = health

    def read(self, uid: PodUID) -> Pod | None:
        """Return what an earlier daemon kept of a pod; what cannot be read is set aside and told."""
        path = os.path.join(self._pods_dir, uid, "pod.json")
        try:
            with open(path, "rb") as file:
                return msgspec.json.decode(file.read(), type=Pod)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            log.warning("pod's record set aside, its manifest decides", path=path, error=str(error))
            with contextlib.suppress(OSError):
                os.replace(path, f"{path}.bad")
            return None

    def keep(self, pod: Pod) -> None:
        """Keep a pod for a daemon that comes when its manifest has gone."""
        directory = os.path.join(self._pods_dir, pod.metadata.uid)
        path = os.path.join(directory, "pod.json")
        data = msgspec.json.encode(pod)
        problem = ""
        if not os.path.exists(path):
            for _, text in unhonoured_fields(pod):
                self._recorder.event(pod, "Warning", "FieldNotHonoured", text)
        try:
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                if file.read() == data:
                    return
            os.makedirs(directory, mode=0o700, exist_ok=True)
            write_atomic(path, data, mode=0o600)
        except OSError as error:
            # The pod may run all the same; only a daemon that comes when its manifest has gone would miss this.
            problem = describe(error)
        self._health.set(record_problem(pod_key(pod)), problem)
