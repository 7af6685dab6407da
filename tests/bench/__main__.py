"""The benchmark: what minikubelet takes, beside the bare kernel and the peers that are installed, in one run.

    python -m tests.bench [--quick] [--only NAME ...] [--json FILE] [--svg FILE]

Needs root. Everything lies below one temporary directory; nothing is left afterwards. For figures worth keeping, leave
the machine alone meanwhile: the table says how busy it was.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

import minikubelet
from tests.bench import measures, peers, plot
from tests.bench.samples import as_json, show

_MEASURES: Final = {
    "start": measures.start,
    "restart": measures.restart,
    "exec": measures.execute,
    "probes": measures.probes,
    "lateness": measures.lateness,
    "idle": measures.idle,
    "logs": measures.logs,
    "manifests": measures.manifests,
    "scale": measures.scale,
    "peers": peers.measure,
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few samples, so that it shows only that all of it runs")
    parser.add_argument("--only", nargs="+", choices=_MEASURES, default=list(_MEASURES), help="these alone")
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    parser.add_argument("--svg", type=Path, help="draw the costs over the number of pods there")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("the benchmark makes namespaces and mounts, which only root may: try sudo", file=sys.stderr)
        return 2
    base = Path(tempfile.mkdtemp(prefix="mkbench", dir=_in_memory()))
    base.chmod(0o755)
    bench = measures.Bench(base, quick=options.quick)
    load = os.getloadavg()[0]
    # As an installation does, which a development environment may forbid Python to do by itself.
    compileall.compile_dir(str(Path(minikubelet.__file__).parent), quiet=2)
    try:
        measures.bare(bench)
        for name in options.only:
            print(f"{name} ...", file=sys.stderr, flush=True)
            _MEASURES[name](bench)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    where = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    print(f"{where}, load {load:.1f} before the run\n\n{show(bench.rows)}")
    if bench.scale:
        print("\n" + _scale_table(bench.scale))
    if options.json:
        text = {"machine": where, "load": load, "rows": as_json(bench.rows), "scale": bench.scale}
        options.json.write_text(json.dumps(text, indent=1) + "\n")
    if options.svg and bench.scale:
        options.svg.write_text(plot.draw(bench.scale))
    return 0


def _in_memory() -> str | None:
    """Return a directory in memory, as /run is on a real node; None where there is none."""
    lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    memory = {line[1] for line in lines if line[2] == "tmpfs"}
    return next((one for one in ("/run", "/dev/shm") if one in memory), None)


def _scale_table(scale: list[dict[str, float]]) -> str:
    names = list(scale[0])
    lines = [names, *([f"{one[name]:.4g}" for name in names] for one in scale)]
    return "\n".join("  ".join(cell.rjust(16) for cell in line) for line in lines)


if __name__ == "__main__":
    sys.exit(main())
