# SPDX-License-Identifier: BSD-3-Clause
"""See run.py, which worker processes must be able to import (this file they cannot)."""

from __future__ import annotations

import sys

from fuzz.run import main

if __name__ == "__main__":
    sys.exit(main())
