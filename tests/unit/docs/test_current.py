"""The documentation says what the code says."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


def generator():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name", ["reference/cli.md", "reference/configuration.md", "man/minikubelet.1", "man/minikubelet.yaml.5"]
)
def test_generated_pages_are_current(name):
    text = re.sub(r"[ \t]+$", "", generator().PAGES[name](), flags=re.MULTILINE)
    assert (DOCS / name).read_text() == text, "run: make docs"


def test_every_setting_is_described():
    missing = [key for key, _, _, about in generator().setting_rows() if not about]
    assert missing == [], "add a line for it to SETTINGS in docs/generate.py, then run it"


def test_every_event_is_in_the_reference():
    told = set(re.findall(r"`([A-Z][A-Za-z]+)`", (DOCS / "reference" / "events.md").read_text()))
    used = set()
    for path in [
        *ROOT.glob("minikubelet/node/*.py"),
        *ROOT.glob("minikubelet/runtime/*.py"),
        *ROOT.glob("minikubelet/daemon/*.py"),
    ]:
        used |= set(re.findall(r'"(?:Normal|Warning)",\s*"([A-Z][A-Za-z]+)"', path.read_text()))
        used |= set(re.findall(r'^FAILED_[A-Z]+: Final = "([A-Za-z]+)"', path.read_text(), re.MULTILINE))
    assert len(used) > 10
    assert sorted(used - told) == []


@pytest.mark.parametrize("page", sorted(DOCS.glob("man/*.[157]")), ids=lambda page: page.name)
def test_manual_pages_are_good_roff(page):
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        ["groff", "-man", "-mdoc", "-Tascii", "-ww", "-z", page], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "page", sorted([*DOCS.glob("*.md"), *DOCS.glob("reference/*.md"), ROOT / "README.md"]), ids=lambda page: page.name
)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
