"""CLASSIFIER: whether a model is a trained classifier at all, before any statistic counts.

An untrained network and one that answers everything alike have classes that stand out by far, and
mean nothing. Weights that are still random numbers give the first away (`instruments.spectra`); the
second answers one class even to what the searches made for other classes.
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from scanner.graph.core import flatten
from scanner.graph.layers.weights import from_the_last
from scanner.instruments import probes, spectra
from scanner.instruments.answers import Answers
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.results import Contribution, Measurement, Observation, Part, Rule, Severity

_MOST_SEEN = 64  # images of the searches


class Classifier(Detector):
    """Whether weights are more than random numbers, and answers more than one class.

    The statistic is the number of observations.
    """

    rule: ClassVar[Rule] = Rule(
        id="classifier",
        name="Trained classifier",
        summary="The model is untrained, or answers one class whatever it is shown.",
        source="I. M. Johnstone, Annals of Statistics 29, 2001, theorem 1.1",
    )
    needs: ClassVar[Needs] = Needs.LOGITS
    copies: ClassVar[float] = 6
    contribution: ClassVar[Contribution] = Contribution(part=Part.PREMISE)
    after_searches: ClassVar[bool] = True

    def measure(self, subject: Subject) -> Measurement:
        """Return an observation for each reason why no statistic of the model means anything.

        Figures: `order`, by how much the most ordered layer exceeds random numbers; `share`, of the
        images in the most frequent class; `answered`, the classes that were answered.

        Raises:
            NoLogitsError: There are no logits, or fewer than two classes.
            UnsupportedModelError: There are several inputs, or the model fails.
            UsageError: The input's shape is open, or the user's images do not fit.
        """
        model, settings = subject.model, subject.settings
        answers = Answers(model, settings)
        images = probes.varied(settings, answers.shape, answers.dtype)
        directed = [each for each in subject.seen if each.shape[1:] == answers.shape][:_MOST_SEEN]
        logits = answers.logits(np.concatenate([images, *directed]))
        counts = np.bincount(logits.argmax(axis=1), minlength=logits.shape[1])
        layers = from_the_last(flatten.flatten(model.complete(model.proto)))
        ordered = spectra.order(layers, settings.seed)
        found = (*_untrained(ordered), *_constant(logits, counts, searched=bool(directed)))
        return Measurement(
            rule=self.rule.id,
            statistic=float(len(found)),
            parameters={
                "images": len(images),
                "directed": len(logits) - len(images),
                "seed": settings.seed,
                "input_range": list(probes.input_range(answers.dtype, settings)),
                "input_shape": list(answers.shape),
                "logits": answers.name,
                "classes": logits.shape[1],
            },
            figures={
                "order": ordered,
                "share": float(counts.max() / len(logits)),
                "answered": float((counts > 0).sum()),
            },
            observations=found,
        )


def _untrained(ordered: float | None) -> Iterator[Observation]:
    if ordered is None or ordered >= spectra.ORDERED:
        return
    sentence = (
        "the model is not trained: its weights cannot be told from random numbers (the most "
        f"ordered layer exceeds them by {ordered:.1f} standard units, and trained ones by more "
        f"than {spectra.ORDERED:g})"
    )
    if ordered < -spectra.ORDERED:
        sentence = (
            "nothing shows that the model is trained: its weights are as orthogonal as those of "
            "some initialisations, or of principal components (the most ordered layer falls short "
            f"of random numbers by {-ordered:.1f} standard units, and trained ones exceed them by "
            f"more than {spectra.ORDERED:g})"
        )
    yield Observation(
        code="untrained",
        severity=Severity.WARNING,
        sentence=sentence,
        details={"order": ordered},
    )


def _constant(
    logits: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], *, searched: bool
) -> Iterator[Observation]:
    """Yield an observation where one class is all that the model answers.

    On noise alone, trained networks often do so too: then the logits themselves must stand still.
    """
    still = float(np.ptp(logits, axis=0).max()) <= 1e-6 * max(1.0, float(np.abs(logits).max()))
    if counts.max() == len(logits) and (searched or still):
        told = "with the same logits " if still else ""
        made = ", those among them that were made for other classes" if searched else ""
        yield Observation(
            code="constant",
            severity=Severity.WARNING,
            sentence=f"the model answers class {int(counts.argmax())} {told}to all {len(logits)} "
            f"images{made}: the other {len(counts) - 1} classes are out of reach",
            details={"class": int(counts.argmax()), "images": len(logits)},
        )
