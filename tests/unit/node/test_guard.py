"""Who may write what root runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minikubelet.node.guard import RefusedError, check_trusted, read_trusted


def stat_of(uid: int, mode: int, gid: int = 0) -> os.stat_result:
    return os.stat_result((0o100000 | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("uid", "mode", "trusted", "words"),
    [
        (0, 0o644, 0, None),
        (0, 0o664, 0, "writable by group 0"),
        (0, 0o646, 0, "writable by anybody"),
        (12345, 0o644, 0, "owned by uid 12345"),
        (12345, 0o644, 12345, None),
        (12345, 0o666, 12345, "writable by anybody"),
    ],
)
def test_only_root_or_the_trusted_user_may_write(uid: int, mode: int, trusted: int, words: str | None) -> None:
    if words is None:
        check_trusted("f", stat_of(uid, mode), trusted)
        return
    with pytest.raises(RefusedError, match=words):
        check_trusted("f", stat_of(uid, mode), trusted)


def test_a_directory_is_no_manifest(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    with pytest.raises(RefusedError, match="not a regular file"):
        read_trusted(str(tmp_path))
