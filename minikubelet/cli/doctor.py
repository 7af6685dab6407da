"""`minikubelet doctor`: checks whether this machine can run pods, says of each point how it stands and what to do."""

from __future__ import annotations

import argparse
import json
import os

from minikubelet.cli import terminal
from minikubelet.cli.drain import daemon_process
from minikubelet.node import settings_record

EXAMPLES = """examples:
  minikubelet doctor              all checks; those that are well in short
  minikubelet doctor -o json      for programs
exit codes: 0 no problem (warnings may stand), 1 a problem
"""
_MARKS = {"ok": "ok      ", "warning": "warning ", "problem": "PROBLEM "}
_COLOURS = {"ok": terminal.GREEN, "warning": terminal.YELLOW, "problem": terminal.RED}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.add_argument("--bridge", help="the daemon's, for finding leftovers (default: the last one's)")


def execute(options: argparse.Namespace) -> int:
    """Run every check; 1 when one of them is a problem."""
    from minikubelet.node.checkup import check_machine

    told = settings_record.read(options.run_dir)
    checks = check_machine(
        manifests=settings_record.manifest_dir(options.run_dir, options.config_dir),
        trusted_uid=int(told.get("trusted_uid") or 0),
        state_dir=options.state_dir,
        run_dir=options.run_dir,
        log_dir=options.log_dir,
        bridge=options.bridge or str(told.get("bridge") or "minikubelet0"),
        daemon=daemon_process(options) if os.geteuid() == 0 else None,
    )
    if options.output == "json":
        found = [{"check": c.name, "result": c.result, "found": c.found, "advice": c.advice} for c in checks]
        print(json.dumps({"kind": "Checkup", "checks": found}, indent=2))
    else:
        width = max(len(one.name) for one in checks)
        for one in checks:
            print(f"{_paint(one.result)}{one.name:{width}}  {one.found}")
            if one.advice:
                print(f"{'':8}{'':{width}}  -> {one.advice}")
        counts = [f"{sum(c.result == kind for c in checks)} {kind}" for kind in ("ok", "warning", "problem")]
        print(", ".join(counts))
    return 1 if any(one.result == "problem" for one in checks) else 0


def _paint(result: str) -> str:
    return terminal.paint(_MARKS[result], _COLOURS[result])
