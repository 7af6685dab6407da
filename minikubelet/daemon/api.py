"""Builds the API upon a daemon's parts; its libraries are imported as late as here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikubelet.version import VERSION

if TYPE_CHECKING:
    from minikubelet.daemon.daemon import Daemon
    from minikubelet.server.app import Server


def load_server() -> None:
    """Import the API with its libraries, which take a third of all imports' time."""
    import minikubelet.server.app
    import minikubelet.server.control
    import minikubelet.server.metrics
    import minikubelet.server.usage
    import minikubelet.server.writes  # noqa: F401


def make_api(daemon: Daemon) -> Server:
    """Build the API, which does not listen yet."""
    from minikubelet.server.app import Parts, make_server
    from minikubelet.server.context import Context
    from minikubelet.server.control import Control
    from minikubelet.server.metrics import Metrics
    from minikubelet.server.usage import Usage
    from minikubelet.server.writes import Origin, Writes

    settings, store = daemon.settings, daemon.store
    context = Context(settings=settings, store=store, pauses=daemon.pauses, bells=daemon.bells, version=VERSION)
    usage = Usage(stats=daemon.stats, pods=daemon.status.pods, node_name=settings.node_name)

    def origin(kind: str, namespace: str, name: str) -> Origin | None:
        found = daemon.source.desired.origin(kind, namespace, name)
        return Origin(*found) if found is not None else None

    parts = Parts(
        writes=Writes(manifest_dir=settings.manifest_dir, origin=origin),
        control=Control(context, desired=lambda: daemon.source.desired, measures=daemon.measures, usage=usage),
        usage=usage,
        metrics=Metrics(
            measures=daemon.measures,
            usage=usage,
            store=store,
            version=VERSION,
            problems=lambda: len(daemon.health.problems()),
        ),
        health=lambda: {name.replace(" ", "-"): text for name, text in daemon.node_problems().items()},
    )
    return make_server(context, parts, settings.socket_path)
