# SPDX-License-Identifier: BSD-3-Clause
"""The parts of `python -m torch_pooling doctor`; see ../doctor.py."""
