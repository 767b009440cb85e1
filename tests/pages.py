"""A page that keeps what a report writes, a listing to show on it, and what is read from HTML."""

import io
from html.parser import HTMLParser

from rich.console import Console

from scanner.report import Listing

LISTING = Listing(
    subject="layers",
    columns=("position", "value"),
    rows=(("1", "relu"), ("2", "\x1b[2J")),
    numeric=("position",),
    data={"layers": ["relu", "\x1b[2J"]},
)


class StringPage:
    """A page over a string."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def write(self, text: str) -> None:
        """Add text."""
        self.console.file.write(text)

    @property
    def text(self) -> str:
        """All that was written."""
        assert isinstance(self.console.file, io.StringIO)
        return self.console.file.getvalue()


class Elements(HTMLParser):
    """What a browser would find in HTML: its elements with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        """Keep text."""
        self.text += data

    @property
    def names(self) -> list[str]:
        """The elements' names, in order."""
        return [name for name, _ in self.found]
