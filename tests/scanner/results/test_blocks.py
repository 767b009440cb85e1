"""What a report can draw survives JSON."""

import json

import pytest

from scanner.results import Block, Cell, Description, Histogram, Series, Table
from scanner.values import from_json, to_json

TABLE = Table(columns=("class", "size"), rows=(("3", "1.0"), ("9", "-")), left=1, emphasised=0)
HISTOGRAM = Histogram(
    quantity="S_A", edges=(0.0, 0.5), series=(Series(name="suspect", counts=(3, 1)),)
)


@pytest.mark.parametrize(
    "block",
    [Block(line="a line", strong="line"), Block(table=TABLE), Block(histogram=HISTOGRAM)],
    ids=["line", "table", "histogram"],
)
def test_a_description_survives_json(block: Block) -> None:
    description = Description(blocks=(block,), cells=(Cell(heading="class", text="3"),))
    assert from_json(Description, json.loads(json.dumps(to_json(description)))) == description


def test_by_default_nothing_is_drawn() -> None:
    assert (Description().blocks, Description().cells) == ((), ())
