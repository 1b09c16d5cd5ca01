# SPDX-License-Identifier: BSD-3-Clause
"""Every Python block of every page runs: the blocks of a page in order, in one namespace, in a folder of their own.

A block that needs a package which tests do not has ``<!-- needs: package, ... -->`` on a line before it; it is left out where that is
missing. The site is built, links and all, by ``make docs``; its hooks are tested here, where mkdocs is installed.
"""
from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"(?:^<!-- needs: (?P<needs>[\w., ]+) -->\n+)?^```(?:python|py|pycon)\b[^\n]*\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)


def program(page: Path) -> str:
    """The page with everything blanked but its Python blocks, so that line numbers in a traceback are those of the page."""
    text = page.read_text()
    kept = [""] * text.count("\n")
    for block in BLOCK.finditer(text):
        needs = [name.strip() for name in (block["needs"] or "").split(",") if name.strip()]
        if all(importlib.util.find_spec(name) for name in needs):
            first = text.count("\n", 0, block.start("code"))
            lines = block["code"].splitlines()
            kept[first : first + len(lines)] = lines
    return "\n".join(kept)


WITH_CODE = [page for page in PAGES if BLOCK.search(page.read_text())]


def test_pages_with_code_are_found() -> None:
    names = {page.name for page in WITH_CODE}
    assert {"README.md", "quick-start.md", "distributed.md"} <= names
    for page in PAGES:  # no block escapes by its spelling
        assert len(re.findall(r"^\s*(?:```|~~~)\s*\{?\.?(?:py|Py)", page.read_text(), re.MULTILINE)) == len(BLOCK.findall(page.read_text())), page


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_code_runs(page: Path, tmp_path: Path) -> None:
    runner = "import sys; path, text = sys.argv[1], sys.stdin.read(); exec(compile(text, path, 'exec'), {'__name__': '__main__'})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), str(ROOT)]), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run([sys.executable, "-c", runner, str(page)], input=program(page), cwd=tmp_path,
                          capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def test_links_lead_somewhere() -> None:
    """In the repository: files, folders and headings; the site's own check is mkdocs' strict one."""

    def anchors(page: Path) -> set[str]:
        outside = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        titles = re.findall(r"^#+ (.*)$", outside, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}

    broken = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(#[^)\s]*)?\)", text):
            place = (page.parent / target).resolve() if target else page
            if not place.exists() or (anchor and place.suffix == ".md" and anchor[1:] not in anchors(place)):
                broken.append(f"{page.name}: {target}{anchor}")
    assert not broken


def test_site_links(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs")
    monkeypatch.syspath_prepend(ROOT / "docs")
    import site_hooks

    found: list[str] = []
    page = "[a](../csrc/core/window.h) [b](../benchmarks/results) [c](guide.md#noise) [d](../LICENSE)\n```sh\n[e](nowhere)\n```\n[f](https://x.org)"
    assert site_hooks.rewritten(page, "docs/design.md", found.append) == (
        "[a](source/csrc/core/window.h.md) [b](source/benchmarks/results/index.md) [c](guide.md#noise) [d](source/LICENSE.md)\n"
        "```sh\n[e](nowhere)\n```\n[f](https://x.org)"
    )
    assert found == ["csrc/core/window.h", "benchmarks/results", "docs/guide.md", "LICENSE"]
    assert site_hooks.rewritten("[a](docs/guide.md)", "README.md", found.append) == "[a](guide.md)"
