# SPDX-License-Identifier: BSD-3-Clause
"""Docstrings as Markdown: stars of shapes ([N, *spatial]) are no emphasis, and Sphinx' :func: is a link."""

from __future__ import annotations

import re
from typing import Any

import griffe

CODE = re.compile(r"(``.*?``|`.*?`)", re.DOTALL)


def as_markdown(text: str) -> str:
    text = re.sub(r":(?:func|class):`([\w.]+)`", r"[`\1`][\1]", text)
    return "".join(part if part.startswith("`") else re.sub(r"\*(?=\w)", r"\\*", part) for part in CODE.split(text))


class Docstrings(griffe.Extension):
    def on_object(self, *, obj: Any, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
