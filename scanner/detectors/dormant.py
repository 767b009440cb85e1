"""Sleeping paths: what is silent on everything the model is shown, and could decide everything.

Source: HiddenLayer, "ShadowLogic" (2024); Bober-Irizar et al., "Architectural Backdoors in Neural
Networks" (CVPR 2023); Qi et al., "Towards Practical Deployment-Stage Backdoor Attack on Deep Neural
Networks" (CVPR 2022), for replaced channels. That a gate is found by what it does, whatever
operators make it, is ours: a value is forced, not recognised.
"""

from typing import ClassVar

from scanner.instruments import dormancy
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.results import Contribution, Measurement, Part, Rule


class Dormant(Detector):
    """Values past the trained weights that nothing shown moves, and that decide the answer.

    The statistic is the highest severity.
    """

    rule: ClassVar[Rule] = Rule(
        id="dormant",
        name="Sleeping paths",
        summary="A value that ordinary images leave alone decides the answer when it is moved.",
        source="Qi et al., CVPR 2022; Bober-Irizar et al., CVPR 2023; HiddenLayer, 2024",
    )
    needs: ClassVar[Needs] = Needs.LOGITS
    copies: ClassVar[float] = 8
    contribution: ClassVar[Contribution] = Contribution(part=Part.STRUCTURAL)

    def measure(self, subject: Subject) -> Measurement:
        """Return one observation for each sleeping path that decides the answer.

        Raises:
            MalformedModelError: The graph contradicts itself.
            NoLogitsError: The model answers nothing that names a class.
            UnsupportedModelError: The model has several inputs, or fails when it runs.
            UsageError: The input's shape is open.
        """
        found = dormancy.search(subject)
        return Measurement(
            rule=self.rule.id,
            statistic=float(max((o.severity for o in found.observations), default=0)),
            parameters=found.parameters,
            observations=found.observations,
        )
