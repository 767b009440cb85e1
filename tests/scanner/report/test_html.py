"""A page that obeys nothing from a model, whose structure stays what it is."""

import base64
import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Callable

from examples import hostile, result, unopened
from hypothesis import given
from hypothesis import strategies as st
from pages import Elements, StringPage
from rich.console import Console

from scanner.report import json as as_json
from scanner.report.html import HtmlReport
from scanner.results import (
    Array,
    Change,
    Differences,
    Evidence,
    Input,
    Kind,
    LayerChange,
    Relation,
    ScanResult,
    Verdict,
)

RESULTS = [result(), hostile(), unopened()]


def written(*results: ScanResult) -> str:
    page = StringPage(Console(file=io.StringIO()))
    HtmlReport().render(results, page, count=len(results))
    return page.text


def test_golden(golden: Callable[[str, str], None]) -> None:
    """Of the structure: what style and script say is looked at, not compared."""
    text = re.sub(
        r"(?s)<style>.*?</style>|<script>.*?</script>|sha256-[^']*", "", written(*RESULTS)
    )
    golden("scan.html", text.replace("><", ">\n<"))


def test_the_page_allows_its_own_style_and_script_and_nothing_else() -> None:
    text = written(result())
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.replace("&#x27;", "'").split(";"))
    assert rules["default-src"] == "'none'"
    for kind, element in (("style-src", "style"), ("script-src", "script")):
        (content,) = re.findall(rf"(?s)<{element}>(.*?)</{element}>", text)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[kind] == f"'sha256-{digest}'"
    assert rules.keys() == {
        *("default-src", "img-src", "style-src", "script-src", "base-uri", "form-action")
    }
    attributes = [pair for _, found in Elements(text).found for pair in found.items()]
    sources = [value for name, value in attributes if name == "src"]
    assert sources
    assert all(value.startswith("data:image/png;base64,") for value in sources)
    assert not [name for name, _ in attributes if name.startswith("on") or name == "style"]


@given(st.text(min_size=1))
def test_no_text_of_a_model_makes_an_element(text: str) -> None:
    plain = dataclasses.replace(hostile(), reason="x", warnings=("x",))
    twisted = dataclasses.replace(
        plain, model=dataclasses.replace(plain.model, path=text), reason=text, warnings=(text,)
    )
    assert Elements(written(twisted)).names == Elements(written(plain)).names


def test_the_numbers_are_in_the_page() -> None:
    (data,) = re.findall(
        r'(?s)<script type="application/jsonl"[^>]*>(.*?)</script>', written(*RESULTS)
    )
    read = [json.loads(line) for line in data.splitlines()]
    assert read == [json.loads(as_json.render(one)) for one in RESULTS]


def test_of_many_models_the_foremost_are_drawn() -> None:
    guilty = result("guilty.onnx")
    clean = dataclasses.replace(guilty, verdict=Verdict.CLEAN, score=0.5)
    innocent = [
        dataclasses.replace(clean, model=dataclasses.replace(clean.model, path=f"{number}.onnx"))
        for number in range(60)
    ]
    text = written(*innocent, guilty)
    rows = re.findall(r'<td data-key="([^"]*onnx)">', text)
    assert rows[0] == "guilty.onnx"
    assert len(rows) == 61
    drawn = sum("<img" in article for article in text.split("<article")[1:])
    assert drawn == 40
    assert text.count("only the foremost are drawn") == 21


def test_an_input_is_shown_before_and_after_with_its_classes() -> None:
    pixels = Array.packed(bytes(16), (1, 2, 2))
    shown = Input(
        image=pixels, original=pixels, low=0.0, high=1.0,
        class_before=1, class_after=3, class_without=1, success=0.5,
    )  # fmt: skip
    text = written(seen_with(shown))
    assert text.index("An image: class 1") < text.index("The same, changed: class 3")
    assert "Without what is described above, its class would be 1." in text
    turned = "The same change turns 50% of the other images on which it was tried into class 3."
    assert turned in text


def test_an_input_of_an_older_result_is_shown_without_classes() -> None:
    text = written(seen_with(Input(image=Array.packed(bytes(16), (1, 2, 2)), low=0.0, high=1.0)))
    assert "<figcaption>An input that shows it</figcaption>" in text
    assert "its class would be" not in text


def seen_with(shown: Input) -> ScanResult:
    """A result of one finding, which an input shows."""
    whole = hostile()
    seen = dataclasses.replace(whole.findings[0].observations[0], input=shown)
    finding = dataclasses.replace(whole.findings[0], observations=(seen,))
    return dataclasses.replace(whole, findings=(finding,))


def test_what_differs_from_a_clean_network_is_a_table_and_a_chart() -> None:
    change = Change(kind=Kind.ADDED, node="<gate>", operator="Where", suspect="X 10")
    layer = LayerChange(
        node="conv", operator="Conv", role="weight", rows=8, changed=2, apart=0.5,
        relation=Relation.REPLACED, standing_out=(1, 2),
    )  # fmt: skip
    told = Differences(
        suspect="0" * 16, reference="1" * 16, nodes=3, matched=3, changes=(change,),
        weights=Relation.REPLACED, layers=(layer,),
    )  # fmt: skip
    whole = hostile()
    found = dataclasses.replace(whole.findings[0], evidence=Evidence(differences=told))
    text = written(dataclasses.replace(whole, findings=(found,)))
    assert "<td>&lt;gate&gt;</td>" in text
    assert "2 of 8 channels changed, by 0.5 of themselves: replaced" in text
    apart = dataclasses.replace(told, weights=Relation.UNRELATED)
    found = dataclasses.replace(found, evidence=Evidence(differences=apart))
    assert "channels changed" not in written(dataclasses.replace(whole, findings=(found,)))


def test_what_is_in_the_graph_has_no_place_among_clean_models() -> None:
    """An index of the searches beside it would be that of something else."""
    found = dataclasses.replace(hostile(), score=1.0, index=0.1)
    assert "index is 0.1" not in written(found)
    assert "index is 0.1" in written(dataclasses.replace(found, score=None))
    assert "times as far out as the furthest clean model" in written(
        dataclasses.replace(found, score=0.9, size=2.0)
    )


def test_a_folder_has_an_index_and_a_page_per_model() -> None:
    files = dict(HtmlReport().files(iter(RESULTS)))
    index, *pages = files
    assert index == "index.html"
    links = {found["href"] for name, found in Elements(files[index]).found if name == "a"}
    assert links == set(pages)
    for number, page in enumerate(pages):
        assert page.startswith(f"{number}-")
        text = files[page]
        assert text.replace('<p><a href="index.html">Back to all models</a></p>', "") == written(
            RESULTS[number]
        )


@given(st.text())
def test_no_name_of_a_model_leaves_the_folder(path: str) -> None:
    named = dataclasses.replace(hostile(), model=dataclasses.replace(hostile().model, path=path))
    files = [name for name, _ in HtmlReport().files([named, named])]
    assert len(set(files)) == 3
    assert all(re.fullmatch(r"[\w.-]+\.html", name, re.ASCII) for name in files)


def test_a_folder_of_one_model_is_its_page() -> None:
    assert list(HtmlReport().files([result()])) == [("index.html", written(result()))]
