"""Every example runs, prints a finding and writes one picture, and the guide shows it."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.stem != "common")
# A line that must be among what is printed.
FINDINGS = {
    "noise": r"maximum 0\.\d+\n\s+average 0\.00\d+",
    "gradients": r"maximum: output 3\.0, gradient \[\[0\.0, 1\.0\], \[0\.0, 0\.0\]\]\naverage: output 1\.625, gradient \[\[0\.25",
    "border": r"=True: corner 0\.444, edge 0\.667, inside 1\.000\n.*=False: corner 1\.000",
    "box_filter": r"kernel 5: measured response is the formula's within \d\.\de-1[3-9]",
    "stacked": r"5: average 1/1024, maximum 1 \(",
    "heads": r"123,642,856 parameters\n.*513,000 parameters",
    "pyramid": r"(.*pyramid \(1, 63\)\n){3}",
    "precision": r"float32: relative error ours \d\.\de-\d+, torch",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    if path.stem == "pyramid":
        pytest.importorskip("sklearn")
    where = os.pathsep.join([os.getcwd(), str(ROOT)])  # an emulated build's folder comes first
    environment = os.environ | {"PYTHONPATH": where}
    command = [sys.executable, str(path), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)  # two minutes under sanitizers
    assert done.returncode == 0, done.stderr
    assert re.search(FINDINGS[path.stem], done.stdout), done.stdout
    (picture,) = tmp_path.iterdir()
    assert picture.name == f"{path.stem}.png" and picture.read_bytes().startswith(b"\x89PNG")


def test_the_guide_shows_every_picture() -> None:
    assert {path.stem for path in EXAMPLES} == set(FINDINGS)
    shown = re.findall(r"\(pictures/(\w+)\.png\)", (ROOT / "docs" / "guide.md").read_text())
    assert sorted(shown) == sorted(FINDINGS)
    assert sorted(path.stem for path in (ROOT / "docs" / "pictures").iterdir()) == sorted(FINDINGS)
