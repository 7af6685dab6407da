"""What is published of pods as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from minikubelet.node.status_manager import StatusManager
from minikubelet.node.store import Store


@pytest.mark.anyio
async def test_the_files_of_pods_are_not_for_everybody(tmp_path: Path) -> None:
    """They have the variables of a manifest that may be readable by root only; an earlier daemon's are no exception."""
    status = tmp_path / "status"
    status.mkdir(mode=0o755)
    manager = StatusManager(
        status_dir=str(status), table_path=str(tmp_path / "status.txt"), store=Store(), render=lambda pods: ""
    )
    manager.start()
    manager.stop()
    assert status.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "status.txt").stat().st_mode & 0o777 == 0o644
