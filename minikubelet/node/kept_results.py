"""Probe results on disk, so that a daemon that comes back shows its pods as they were and not as unready."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Final

import structlog

from minikubelet.lifecycle.observed import ContainerID, PodUID, ProbeOutcome
from minikubelet.lifecycle.probing import ProbeKind
from minikubelet.linux.files import write_atomic

log = structlog.get_logger(__name__)

_FILE: Final = "probes.json"

Results = Mapping[tuple[ProbeKind, ContainerID], ProbeOutcome]


class KeptResults:
    """Owner of `<state>/pods/<uid>/probes.json`. It goes with the pod's directory."""

    def __init__(self, pods_dir: str) -> None:
        """Create it; `pods_dir` is `<state>/pods`."""
        self._pods_dir = pods_dir

    def load(self, uid: PodUID) -> dict[tuple[ProbeKind, ContainerID], ProbeOutcome]:
        """Return what was kept last; nothing when there is no file or it cannot be read."""
        try:
            with open(os.path.join(self._pods_dir, uid, _FILE), encoding="utf-8") as file:
                found = json.load(file)
            return {
                (ProbeKind(kind), ContainerID(str(container))): ProbeOutcome(outcome)
                for container, outcomes in found.items()
                for kind, outcome in outcomes.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            log.warning("kept probe results unreadable, probes begin anew", uid=uid, error=str(error))
            return {}

    def keep(self, uid: PodUID, results: Results) -> None:
        """Keep these, in place of those before. A failure costs what a restart would remember."""
        text: dict[str, dict[str, str]] = {}
        for (kind, container), outcome in results.items():
            text.setdefault(container, {})[kind.value] = outcome.value
        # A pod whose directory has gone is being forgotten.
        with contextlib.suppress(FileNotFoundError):
            try:
                write_atomic(os.path.join(self._pods_dir, uid, _FILE), json.dumps(text).encode(), mode=0o600)
            except FileNotFoundError:
                raise
            except OSError as error:
                log.warning("cannot keep probe results", uid=uid, error=str(error))
