# SPDX-License-Identifier: BSD-3-Clause
"""Benchmarks, run from the source tree: python -m benchmarks, python -m benchmarks.percall (see README.md beside this file)."""
