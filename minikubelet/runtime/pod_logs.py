"""The logs of pods: where they lie, the links under which log collectors look, and which of them go when."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final

import structlog

from minikubelet.api.types import Pod
from minikubelet.lifecycle.restart import count_from_logs
from minikubelet.linux.faults import point

log = structlog.get_logger(__name__)

_MAX_LINK_NAME: Final = 255 - len(".log")
_LOGS_KEPT: Final = 5  # instances of a container, the one that runs included


class PodLogs:
    """Knows the directories `pods` and `containers` of all logs; the files are written by the pauses."""

    def __init__(self, log_dir: str) -> None:
        """Take the directory that holds `pods` and `containers`."""
        self._log_dir = log_dir

    def directory(self, pod: Pod) -> str:
        """Return the directory of a pod's logs."""
        meta = pod.metadata
        return os.path.join(self._log_dir, "pods", f"{meta.namespace}_{meta.name}_{meta.uid}")

    def path(self, pod: Pod, container: str, restart_count: int) -> str:
        """Return the log file of one instance."""
        return os.path.join(self.directory(pod), container, f"{restart_count}.log")

    def next_restart_count(self, pod: Pod, container: str) -> int:
        """Return the restart count for a container of which no instance is known: by its logs, 0 without one."""
        with contextlib.suppress(OSError):
            return count_from_logs(os.listdir(os.path.join(self.directory(pod), container)))
        return 0

    def remove_dead_links(self, is_starting: Callable[[str], bool]) -> None:
        """Remove links to logs that lead nowhere: a daemon may have died between such a link and its instance.

        Those of a pod of which `is_starting`, asked by its uid, says that an instance may still come to be, stay.

        Source: kubelet kuberuntime_gc.go `evictPodLogsDirectories` (v1.36).
        """
        directory = os.path.join(self._log_dir, "containers")
        with contextlib.suppress(OSError), os.scandir(directory) as found:
            for one in found:
                if one.name.endswith(".log") and one.is_symlink() and not os.path.exists(one.path):
                    directory = os.path.dirname(os.path.dirname(os.readlink(one.path)))
                    if not is_starting(directory.rpartition("_")[2]):
                        os.unlink(one.path)

    def link(self, pod: Pod, container: str, identity: str, log_path: str) -> None:
        """Make the log's directory, and the link under which log collectors look; a failure is no reason not to run."""
        path = self._link(pod, container, identity)
        try:
            point("log.link")
            os.makedirs(os.path.dirname(log_path), mode=0o755, exist_ok=True)
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            os.symlink(log_path, path)
        except OSError as error:
            log.warning("cannot link log", path=path, error=str(error))

    def link_again(self, pod: Pod, container: str, identity: str, restart_count: int) -> None:
        """Make the link of an instance that has a log, if it is missing: an earlier daemon could not make it."""
        log_path = self.path(pod, container, restart_count)
        if os.path.exists(log_path) and not os.path.lexists(self._link(pod, container, identity)):
            self.link(pod, container, identity, log_path)

    def unlink(self, pod: Pod, container: str, identity: str) -> None:
        """Remove an instance's link."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._link(pod, container, identity))

    def remove_old(self, pod: Pod, container: str) -> None:
        """Keep the logs of a container's newest instances; without that, every restart would leave one."""
        directory = os.path.join(self.directory(pod), container)
        with contextlib.suppress(OSError):
            numbers = {name: count_from_logs((name,)) for name in os.listdir(directory)}
            kept = sorted(set(numbers.values()))[-_LOGS_KEPT:]
            for name, number in numbers.items():
                if number and number not in kept:  # 0: it is no log
                    os.unlink(os.path.join(directory, name))

    def directories(self, uid: str) -> list[str]:
        """Return the directories of logs of a pod of which nothing but its UID is known."""
        logs = os.path.join(self._log_dir, "pods")
        return [os.path.join(logs, one) for one in os.listdir(logs) if one.endswith(f"_{uid}")]

    def unlink_below(self, directory: str) -> None:
        """Remove the links to logs in a directory, found by where they lead: their instance may not be known."""
        links = os.path.join(self._log_dir, "containers")
        namespace, _, rest = os.path.basename(directory).partition("_")
        start = f"{rest.partition('_')[0]}_{namespace}_"[:_MAX_LINK_NAME]
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(links):
                if not name.startswith(start):
                    continue  # another pod's: with very many, to read them all would take long
                with contextlib.suppress(OSError):  # no link, or gone meanwhile
                    if os.readlink(os.path.join(links, name)).startswith(directory + "/"):
                        os.unlink(os.path.join(links, name))

    def _link(self, pod: Pod, container: str, identity: str) -> str:
        name = f"{pod.metadata.name}_{pod.metadata.namespace}_{container}-{identity}"[:_MAX_LINK_NAME] + ".log"
        return os.path.join(self._log_dir, "containers", name)
