"""What the conformance rows share: one daemon a module (`cluster`), and the module's pods dropped there all at once.

A module of rows has `PODS`, manifests by name: all run from the first test on, side by side, so that the module takes
as long as its slowest row. A module that needs another node configuration has `CONFIG`, its config.yaml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Node


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All rows run real pods. This sees the items of all folders."""
    for item in items:
        if "/e2e/conformance/" in str(item.path):
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="module", autouse=True)
def dropped(request: pytest.FixtureRequest, cluster: Node) -> None:
    """Drop the module's pods."""
    for name, text in getattr(request.module, "PODS", {}).items():
        cluster.write(f"{name}.yaml", text)
