"""The page of exit codes: what a verb's own help says of them stands there too."""

from __future__ import annotations

import importlib
from pathlib import Path

from minikubelet.cli.main import verbs

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "exit-codes.md").read_text()


def test_every_verb_whose_help_tells_codes_is_on_the_page():
    told = []
    for verb in verbs():
        module = importlib.import_module(f"minikubelet.cli.{verb.replace('-', '_')}")
        if "exit code" in getattr(module, "EXAMPLES", ""):
            told.append(verb)
    assert len(told) >= 4
    assert [verb for verb in told if f"`{verb}`" not in PAGE] == []
