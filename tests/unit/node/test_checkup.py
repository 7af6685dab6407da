"""What `doctor` finds of a machine on which other daemons come and go."""

from __future__ import annotations

import pytest

from minikubelet.node import checkup
from minikubelet.runtime.network.inspection import BridgeFinding


def finding(bridge: str, *, abandoned: bool) -> BridgeFinding:
    return BridgeFinding(bridge=bridge, state_dir="", abandoned=abandoned, links=(), table=True)


def test_a_network_is_left_behind_if_it_still_looks_so_a_moment_later(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, gone, left = (finding(bridge, abandoned=True) for bridge in ("begun", "gone", "left"))
    seen = [(begun, gone, left), (finding("begun", abandoned=False), left)]
    monkeypatch.setattr(checkup, "inspect_network", lambda: seen.pop(0))
    assert checkup._abandoned_networks() == [left]
    monkeypatch.setattr(checkup, "inspect_network", lambda: (finding("fine", abandoned=False),))
    assert checkup._abandoned_networks() == []
