"""Builds the API upon a node's parts; its libraries are imported as late as here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikubelet.runtime.probes import tls
from minikubelet.version import VERSION

if TYPE_CHECKING:
    from minikubelet.daemon.parts import Parts
    from minikubelet.node.settings import Settings
    from minikubelet.server.app import Server


def load_server() -> None:
    """Import the API with its libraries, which take a third of all imports' time."""
    with tls.hidden():
        import minikubelet.server.app
        import minikubelet.server.control
        import minikubelet.server.metrics
        import minikubelet.server.usage
        import minikubelet.server.writes  # noqa: F401


def build_api(settings: Settings, parts: Parts) -> Server:
    """Build the API, which does not listen yet."""
    from minikubelet.server.app import Endpoints, make_server
    from minikubelet.server.context import Context
    from minikubelet.server.control import Control
    from minikubelet.server.metrics import Metrics
    from minikubelet.server.usage import Usage
    from minikubelet.server.writes import Origin, Writes

    reporting, execution, reconciler = parts.reporting, parts.execution, parts.node.reconciler
    store, measures = reporting.store, reporting.measures
    context = Context(settings=settings, store=store, pauses=execution.pauses, bells=reporting.bells, version=VERSION)
    usage = Usage(stats=execution.stats, pods=reporting.status.pods, node_name=settings.node_name)

    def origin(kind: str, namespace: str, name: str) -> Origin | None:
        found = reconciler.desired.origin(kind, namespace, name)
        return Origin(*found) if found is not None else None

    endpoints = Endpoints(
        writes=Writes(manifest_dir=settings.manifest_dir, origin=origin),
        control=Control(context, desired=lambda: reconciler.desired, measures=measures, usage=usage),
        usage=usage,
        metrics=Metrics(
            measures=measures,
            usage=usage,
            store=store,
            version=VERSION,
            problems=lambda: len(reporting.health.problems()),
        ),
        health=lambda: {name.replace(" ", "-"): text for name, text in reporting.health.problems_of_node().items()},
    )
    return make_server(context, endpoints, settings.socket_path)
