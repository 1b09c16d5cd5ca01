# SPDX-License-Identifier: BSD-3-Clause
"""The parts of `python -m torch_pooling demo`; agreement and stopwatch also serve the benchmarks of the source tree."""
