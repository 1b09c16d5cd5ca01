# SPDX-License-Identifier: BSD-3-Clause
"""The command line: python -m torch_pooling COMMAND.

A command is a function that takes the parsed arguments and returns the exit status; what it needs is imported when it
runs, so that --help is quick and one command's missing package never stops another.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def demo(arguments: argparse.Namespace) -> int:
    from torch_pooling import demo

    return demo.main(arguments.out)


def doctor(arguments: argparse.Namespace) -> int:
    from torch_pooling import doctor

    return doctor.main()


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m torch_pooling", description="Pooling for PyTorch, as torch.nn has it, faster.")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    about = "ours against torch on two real photographs: values, gradients, time, memory, a training run and a picture"
    command = commands.add_parser("demo", help=about, description=about.capitalize() + ". Exit status 1 if anything disagrees.")
    command.add_argument("--out", type=Path, default=Path("demo-output"), metavar="DIR", help="folder for demo.png (default: %(default)s)")
    command.set_defaults(run=demo)

    about = "versions, compiler, instruction sets and CUDA architectures, every operator against torch, and a few times"
    command = commands.add_parser("doctor", help=about, description=about.capitalize() + ". Exit status 1 if anything disagrees.")
    command.set_defaults(run=doctor)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    status: int = arguments.run(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
