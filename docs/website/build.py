"""Build the documentation as a site that needs no network, by `python -m docs.website.build`.

Pages are written for readers of the repository, and link to files where these lie there. They are
copied to `build/pages` with links for the site: one to a page leads to the page, under its title
where the text is its file's name; one to another file of the repository becomes the file's name,
since a reader of the site may have no repository.
Then Zensical makes `build/site` of them, strictly: a broken link ends the build.
"""

import functools
import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = "docs"
PAGES = ROOT / "build" / "pages"
SITE = ROOT / "build" / "site"
# Pages from outside docs/, by where they lie in the repository.
ELSEWHERE = {
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
_FRONT = "README.md"  # the site's first page stands for it
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<file>[\w./-]+)(?P<anchor>#[\w-]+)?\)")
_BESIDE = ("site.css", "worker.js")  # in this folder, for the site alone
# The one script that the theme fetches from the network, to search from the disk.
_SHIM = re.compile(r'<script src="https?://[^"]*"[^>]*>\s*</script>')
_WORKER = '<script src="worker.js"></script>'


def build() -> int:
    """Build the site anew; return the generator's exit code."""
    for folder in (PAGES, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    collect(PAGES)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - our own words
    for page in SITE.rglob("*.html"):
        page.write_text(_SHIM.sub(_WORKER, page.read_text(encoding="utf-8")), encoding="utf-8")
    return code


def collect(folder: Path) -> None:
    """Write all pages, and the files beside them, into a new folder."""
    shutil.copytree(ROOT / DOCS, folder, ignore=shutil.ignore_patterns("website"))
    sources = {f"{DOCS}/{path.name}": path.name for path in (ROOT / DOCS).glob("*.md")}
    for source, page in {**sources, **ELSEWHERE}.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        (folder / page).write_text(relinked(text, source), encoding="utf-8")
    for name in _BESIDE:
        shutil.copy(ROOT / DOCS / "website" / name, folder)


def relinked(markdown: str, source: str) -> str:
    """Return a page with links for the site.

    Args:
        markdown: The page.
        source: Where it lies in the repository.
    """

    def replaced(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match["file"]))
        if place := _place(target):
            named = match["text"] in (match["file"], target, posixpath.basename(target))
            text = _title(target) if named and place.endswith(".md") else match["text"]
            return f"[{text}]({place}{match['anchor'] or ''})"
        name = posixpath.basename(target)
        return match["text"] if name in match["text"] else f"{match['text']} (`{target}`)"

    return _LINK.sub(replaced, markdown)


def _place(target: str) -> str | None:
    """Return where a file of the repository is on the site; None where it is not."""
    if target == _FRONT:
        return "index.md"
    if target in ELSEWHERE:
        return ELSEWHERE[target]
    inside = target.removeprefix(f"{DOCS}/")
    return inside if inside != target and (ROOT / target).is_file() else None


@functools.cache
def _title(target: str) -> str:
    """Return the heading of a page, by where it lies in the repository."""
    page = f"{DOCS}/index.md" if target == _FRONT else target
    return (ROOT / page).read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")


if __name__ == "__main__":
    sys.exit(build())
