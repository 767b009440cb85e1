"""The walk to what values derive from: complete, nearest first, and safe in circles."""

from hypothesis import given
from hypothesis import strategies as st

from scanner.graph.core.ancestors import ancestors

NAMES = "abcdefgh"
GRAPHS = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=3))
STARTS = st.lists(st.sampled_from(NAMES), max_size=2)


def distances(graph: dict[str, list[str]], starts: list[str]) -> dict[str, int]:
    """Return by value how many steps it is away from the start, by plain relaxation."""
    found = dict.fromkeys(starts, 0)
    for _ in NAMES:
        for name, far in list(found.items()):
            for source in graph.get(name, []):
                found[source] = min(far + 1, found.get(source, len(NAMES)))
    return found


@given(GRAPHS, STARTS)
def test_everything_is_found_over_a_shortest_way(
    graph: dict[str, list[str]], starts: list[str]
) -> None:
    found = ancestors(starts, lambda name: graph.get(name, []))
    far = distances(graph, starts)
    assert found.keys() == far.keys()
    for name, nearer in found.items():
        assert far[name] == (0 if nearer is None else far[nearer] + 1)
        assert nearer is None or name in graph[nearer]
    assert [far[name] for name in found] == sorted(far.values())


def test_names_that_are_empty_are_left_out() -> None:
    assert ancestors(["", "a"], lambda name: ["", "b"] if name == "a" else []) == {
        "a": None,
        "b": "a",
    }
