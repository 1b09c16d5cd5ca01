# SPDX-License-Identifier: BSD-3-Clause
"""What the examples share: where their pictures go. `python examples/NAME.py [FOLDER]`; the default is docs/pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

OURS, OTHER, QUIET = "#1b6ca8", "#d1603d", "#8a8a8a"


def save(figure: Any, name: str) -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "docs" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": ""})
    plt.close(figure)
    print(f"picture: {path}")
