"""What a p-value and a size are, as a drawing."""

import dataclasses
import re

from examples import neural_cleanse

from docs.website.places import places


def test_suspects_lie_where_their_sizes_are() -> None:
    finding = neural_cleanse()
    near = dataclasses.replace(finding, size=0.5)
    far = dataclasses.replace(finding, size=2.5)
    drawn = places([("one", near), ("another", far)])
    xs = [float(x) for x in re.findall(r'points="([\d.]+),', drawn)]
    assert xs[0] < xs[1]
    assert drawn.count("<circle ") == len(finding.clean)
    assert "size 0.5" in drawn
    assert "size 2.5" in drawn


def test_p_is_written_as_it_is_counted() -> None:
    finding = neural_cleanse()
    further = sum(value >= finding.statistic for value in finding.clean if finding.statistic)
    counted = (1 + further) / (1 + len(finding.clean))
    assert finding.p_value is not None
    assert abs(counted - finding.p_value) < 1e-9
    assert f"p = (1 + {further}) / (1 + {len(finding.clean)})" in places([("one", finding)])
