"""What is grave: what no habit explains, and channels that stand out."""

import dataclasses

from scanner.results import Change, Differences, Kind, LayerChange, Relation

NONE = Differences(suspect="0" * 16, reference="1" * 16, nodes=3, matched=3)
ADDED = Change(kind=Kind.ADDED, node="n", operator="Relu", suspect="Relu")
EDITED = LayerChange(
    node="n",
    operator="Conv",
    role="weight",
    rows=4,
    changed=1,
    apart=1.0,
    relation=Relation.REPLACED,
    standing_out=(2,),
)


def test_what_is_grave() -> None:
    assert not NONE.grave
    assert dataclasses.replace(NONE, changes=(ADDED,)).grave
    assert dataclasses.replace(NONE, layers=(EDITED,)).grave
    explained = dataclasses.replace(ADDED, explained="a habit")
    assert not dataclasses.replace(NONE, changes=(explained,)).grave
    quiet = dataclasses.replace(EDITED, standing_out=())
    assert not dataclasses.replace(NONE, layers=(quiet,)).grave
    assert not dataclasses.replace(NONE, changes=(ADDED,), obstacle="another network").grave
