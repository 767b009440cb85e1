"""Diff: what a model has that clean models of the same network have not.

Its measurement is the canonical graph, which is compared where the references' are known. What that
is, and which differences habits of exporters explain, is in `scanner.graph.canonical` and
`scanner.judging.differences`.
"""

from typing import ClassVar

from scanner.graph.canonical.drawing import draw
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.results import Contribution, Measurement, Part, Rule


class Diff(Detector):
    """Nodes, edges, constants and channels that a clean model of the same network has not.

    The statistic is the highest severity beside the references.
    """

    rule: ClassVar[Rule] = Rule(
        id="diff",
        name="Difference from a clean network",
        summary="The model has nodes, edges, constants or channels that a clean model of the same "
        "network has not, and no habit of exporters explains them.",
        source="B. Weisfeiler and A. Leman, 1968; M. Charikar, K. Chen and M. Farach-Colton, ICALP "
        "2002",
    )
    needs: ClassVar[Needs] = Needs.GRAPH
    contribution: ClassVar[Contribution] = Contribution(part=Part.STRUCTURAL)

    def measure(self, subject: Subject) -> Measurement:
        """Return the model's canonical graph, its weights as rows that can be compared.

        Raises:
            MalformedModelError: The graph contradicts itself.
            UnsupportedModelError: It has too many nodes to be compared.
        """
        seed = subject.settings.seed
        graph = draw(subject.model.complete(subject.model.proto), seed)
        return Measurement(
            rule=self.rule.id,
            statistic=0.0,
            parameters={"nodes": len(graph.nodes), "fingerprint": graph.fingerprint, "seed": seed},
            by_node=graph,
        )
