# SPDX-License-Identifier: BSD-3-Clause
"""What mkdocs needs beyond the pages themselves, so that one text serves both the repository and the site.

Pages link to sources as files in the repository do (``../csrc/core/window.h``). No server is assumed to hold those: each
file that a page links to becomes a page of the site, a folder becomes a list of its files, and links are rewritten to
them. README.md and its neighbours become pages likewise. A link to nothing is a warning, which ``--strict`` makes an error.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
AT_THE_ROOT = {
    "README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md",
}
LANGUAGES = {".py": "python", ".sh": "sh", ".h": "cpp", ".inl": "cpp", ".cpp": "cpp", ".cu": "cpp", ".cuh": "cpp", ".toml": "toml"}
LINK = re.compile(r"(?<!\\)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
FENCES = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
log = logging.getLogger("mkdocs.hooks.site")


def place(path: str) -> str:
    """Where a file or folder of the repository is in the site."""
    if path in AT_THE_ROOT:
        return AT_THE_ROOT[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"source/{path}/index.md" if (ROOT / path).is_dir() else f"source/{path.removesuffix('.md')}.md"


def rewritten(text: str, page: str, found: Callable[[str], None]) -> str:
    """The text of a page (a path in the repository) with its links leading to places in the site."""

    def replace(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), match[1]))
        if not (ROOT / target).exists():
            log.warning("%s links to %s, which does not exist", page, match[1])
            return match[0]
        found(target)
        return f"]({posixpath.relpath(place(target), posixpath.dirname(place(page)) or '.')}{match[2] or ''})"

    return "".join(part if part.startswith("```") else LINK.sub(replace, part) for part in FENCES.split(text))


def source_page(path: str) -> str:
    """A page that shows a file or lists a folder, itself linking as in the repository."""
    full = ROOT / path
    if full.is_dir():
        names = sorted(child.name for child in full.iterdir() if not child.name.startswith((".", "__pycache__")) and child.suffix != ".so")
        return f"# {path}\n\n" + "".join(f"- `{name}`\n" for name in names)
    if full.suffix == ".md":
        return full.read_text()
    return f"# {path}\n\n``````{LANGUAGES.get(full.suffix, 'text')}\n{full.read_text()}\n``````\n"


def on_config(config: Any) -> Any:
    def there(name: str) -> bool:
        origin = next((path for path, page in AT_THE_ROOT.items() if page == name), f"docs/{name}")
        return (ROOT / origin).exists()

    def kept(items: list[Any]) -> list[Any]:
        result = []
        for item in items:
            ((title, value),) = item.items()
            if isinstance(value, list):
                result += [{title: kept(value)}] if kept(value) else []
            elif there(value):
                result.append(item)
        return result

    config.nav = kept(config.nav)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages of the root, and of every source that some page leads to."""
    waiting = [path for path in AT_THE_ROOT if (ROOT / path).exists()]
    waiting += [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    seen = set(waiting)

    def found(target: str) -> None:
        if target not in seen:
            seen.add(target)
            waiting.append(target)

    while waiting:
        path = waiting.pop()
        if path.startswith("docs/") and not path.endswith(".md"):  # mkdocs copies pictures itself
            continue
        # What shows a file as it is has no links, a Markdown file has.
        text = (ROOT / path).read_text() if path.startswith("docs/") else source_page(path)
        if path.endswith(".md"):
            text = rewritten(text, path, found)
        if not path.startswith("docs/"):
            files.append(File.generated(config, place(path), content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    if page.file.generated_by is not None:
        return markdown
    return rewritten(markdown, f"docs/{page.file.src_uri}", lambda target: None)
