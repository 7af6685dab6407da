"""Which fault points strike in a round: a few rules at random, errors of every kind, sudden deaths, late steps."""

from __future__ import annotations

import random
from typing import Final

# Every named point of the program, by the process that meets it. What a container prints may not be lost, so log.write
# fails in the tests of exhaustion only.
DAEMON: Final = (
    *("pod.prepare", "pod.create-sandbox", "pod.create-sandbox.made", "pod.start-container"),
    *("pod.start-container.prepared", "pod.remove-container", "pod.stop-sandbox", "pod.stop-sandbox.stopped"),
    *("pod.clean-up", "pod.forget", "pod.forget.directory", "pauses.fork", "cgroup.make", "cgroup.remove"),
    *("network.change", "network.nft", "network.host-port", "volume.set-up", "volume.tear-down", "volume.write"),
    *("file.write", "file.rename", "events.write", "cgroup.write", "hosts.write", "pod.etc-files", "log.link"),
)
SANDBOX: Final = (
    *("forkserver.fork", "forkserver.forked", "pause.namespaces", "pause.journal", "pause.socket"),
    *("container.fork", "exec.fork", "journal.write", "journal.rewrite", "log.open", "log.rotate", "log.compress"),
    *("spawn.*", "libc.mount", "libc.umount", "libc.unshare", "libc.setns", "libc.open_tree", "libc.move_mount"),
    "libc.pivot_root",
)
_LATE: Final = "*=~0.1@0.1"  # every step, once in ten times, as on a machine that has much else to do
_ERRORS: Final = ("ENOSPC", "EIO", "EMFILE", "ENOMEM", "EAGAIN", "EPERM", "EINTR")


def random_rules(chance: random.Random) -> str:
    """Return rules for the next daemon and the pauses that it makes; often none at all."""
    late = [_LATE] if chance.random() < 0.3 else []
    if chance.random() < 0.5:
        return " ".join(late)
    rules = []
    for name in chance.sample((*DAEMON, *SANDBOX), chance.randint(1, 4)):
        if chance.random() < 0.4:  # a daemon passes many points while it starts, and shall get further
            rules.append(f"{name}=KILL@{chance.choice((0.01, 0.03, 0.1))}")
        else:
            rules.append(f"{name}={chance.choice(_ERRORS)}@{chance.choice((0.02, 0.1, 0.3))}")
    return " ".join((*rules, *late))
