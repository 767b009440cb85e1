"""Steps are bypassed, and who reads what is known."""

from scanner.graph.canonical.plan import Plan, Step


def chain() -> Plan:
    steps = [Step("Relu", n, [a], [b]) for n, a, b in (("a", "x", "p"), ("b", "p", "q"))]
    return Plan(
        steps=[*steps, Step("Add", "c", ["q", "p"], ["y"])],
        constants={},
        inputs=["x"],
        outputs=["y"],
        shapes={"x": ("N", 2)},
        elem_types={},
        opset=17,
    )


def test_what_is_bypassed_is_read_from_its_source() -> None:
    plan = chain()
    plan.bypass({0: "x", 1: "p"})
    assert [(s.operator, s.inputs) for s in plan.steps] == [("Add", ["x", "x"])]
    plan = chain()
    plan.bypass({2: "q"})
    assert plan.outputs == ["q"]
    plan.bypass({})
    assert len(plan.steps) == 2


def test_readers_count_outputs() -> None:
    plan = chain()
    assert dict(plan.readers()) == {"x": 1, "p": 2, "q": 1, "y": 1}
    assert plan.makers()["q"].name == "b"
    assert (plan.rank("x"), plan.rank("q")) == (2, None)
    assert plan.number(plan.steps[0], 3) is None
