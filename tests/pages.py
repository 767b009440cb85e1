"""A page that keeps what a report writes, and a listing to show on it."""

import io

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
