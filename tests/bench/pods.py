"""The pods that are measured, as manifests."""

from __future__ import annotations

import json
from typing import Any

from tests.bench.marks import Marks, program


def marked(word: str, marks: Marks, **container: Any) -> str:
    """Return a pod whose program says a word; its probes and the like as keywords."""
    directory = str(marks.directory)
    return pod(
        word,
        {
            "command": program(word, directory),
            "volumeMounts": [{"name": "marks", "mountPath": directory}],
            **container,
        },
        volumes=[{"name": "marks", "hostPath": {"path": directory}}],
    )


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> str:
    """Return a pod of containers without names and images."""
    named = [{"name": f"c{number}", "image": "host", **one} for number, one in enumerate(containers)]
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 5, "containers": named, **spec},
        }
    )
