"""What of the node's configuration the runtime needs."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    """Directories, names and bounds. Sizes are bytes."""

    state_dir: str
    run_dir: str
    log_dir: str  # holds `pods` and `containers`
    node_name: str
    node_memory: int  # all that the machine has
    cluster_domain: str = "cluster.local"
    cluster_dns: tuple[str, ...] = ()
    resolv_conf: str = "/etc/resolv.conf"
    log_max_size: int = 10 * 1024 * 1024
    log_max_files: int = 5
    seccomp_profiles_dir: str = "/var/lib/minikubelet/seccomp"
    hidden_paths: tuple[str, ...] = ()

    def pod_dir(self, uid: str) -> str:
        """Return the directory of a pod's state."""
        return os.path.join(self.state_dir, "pods", uid)
