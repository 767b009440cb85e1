"""Universal warps: how far all images must be bent, alike, so that they fall into a class.

Source: a warp as a trigger is A. Nguyen and A. Tran, "WaNet: Imperceptible Warping-based Backdoor
Attack", ICLR 2021, section 3: a smooth field, drawn from a few control points. Ours are the search
for one (`scanner.instruments.universal`; C. Xiao et al., "Spatially Transformed Adversarial
Examples", ICLR 2018, bend single images) and the comparison with clean models class by class.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from scanner.errors import NoImagesError
from scanner.instruments import class_sizes, universal
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.differentiable import Differentiable, Floats
from scanner.instruments.trigger import channel_axis
from scanner.results import (
    Comparison,
    Contribution,
    Description,
    Measurement,
    Observation,
    Part,
    PlannedStage,
    Rule,
    Scale,
    Severity,
    Wording,
)

CONTROL_POINTS = 6  # along each axis; WaNet draws 4
LARGEST = 0.08  # of the shorter side: bent further, images are none of their class any more
_LEAST = 0.05  # pixels: a tenth of it against a hundredth is no evidence


class Warp:
    """Each pixel takes the value that lies where a smooth field points, in pixels.

    The field is interpolated between control points, the value between four pixels; beyond the edge
    lies the edge.
    """

    first = 0.25

    def __init__(self, model: Differentiable) -> None:
        """Begin with a field of zeros.

        Raises:
            NoImagesError: The inputs have no rows and columns.
        """
        self._channels = channel_axis(model.shape)
        sides = [size for axis, size in enumerate(model.shape) if axis != self._channels]
        if len(sides) != len(("row", "column")) or min(sides) < len(("one", "its neighbour")):
            raise NoImagesError(
                f"an input of the shape {', '.join(map(str, model.shape))} has no rows and columns "
                "that could be bent",
                remedy="scan a model of images",
            )
        self._along = tuple(_interpolation(side) for side in sides)
        self._places = np.indices(sides).astype(np.float32)
        self.largest = LARGEST * min(sides)
        self._ends = np.array(sides, np.float32)[:, None, None] - 1
        self.parameters: Floats = np.zeros((2, CONTROL_POINTS, CONTROL_POINTS), np.float32)

    def applied(self, images: Floats) -> Floats:
        """Return changed images, (n, *shape)."""
        (upper_left, upper_right, lower_left, lower_right), (down, right) = self._read(images)
        upper = _between(upper_left, upper_right, right)
        planes = _between(upper, _between(lower_left, lower_right, right), down)
        if self._channels is None:
            return planes[:, 0]
        return np.ascontiguousarray(np.moveaxis(planes, 1, 1 + self._channels))

    def pulled(self, images: Floats, gradient: Floats) -> Floats:
        """Return the derivative by the control points: none where the field leaves the image."""
        (upper_left, upper_right, lower_left, lower_right), (down, right) = self._read(images)
        by_row = _between(lower_left - upper_left, lower_right - upper_right, right)
        by_column = _between(upper_right - upper_left, lower_right - lower_left, down)
        planes, pointed = self._planes(gradient), self._pointed()
        by_pixel = [(planes * slope).sum(axis=1).mean(axis=0) for slope in (by_row, by_column)]
        inside = (pointed >= 0) & (pointed <= self._ends)
        found: Floats = self._along[0].T @ (inside * np.stack(by_pixel)) @ self._along[1]
        return found

    def _pointed(self) -> Floats:
        """Return row and column of where each pixel looks, (2, height, width)."""
        field = self._along[0] @ self.parameters @ self._along[1].T
        return np.add(self._places, field, dtype=np.float32)

    def _read(self, images: Floats) -> tuple[list[Floats], Floats]:
        """Return the four pixels around each such place, and how far down and right it is."""
        pointed = np.clip(self._pointed(), 0, self._ends)
        corner = np.minimum(np.floor(pointed), self._ends - 1)
        row, column = corner.astype(np.int64)
        planes = self._planes(images)
        return [planes[:, :, row + i, column + j] for i in (0, 1) for j in (0, 1)], pointed - corner

    def _planes(self, images: Floats) -> Floats:
        """Return images as (n, channels, height, width)."""
        if self._channels is None:
            return images[:, None]
        return np.moveaxis(images, 1 + self._channels, 1)


def _between(one: Floats, other: Floats, share: Floats) -> Floats:
    """Return what lies a share of the way from one to the other."""
    found: Floats = one + share * (other - one)
    return found


def _interpolation(side: int) -> Floats:
    """Return the weights of control points at each pixel, (side, CONTROL_POINTS).

    Between them lie straight lines: what a search finds is no smoother than it has to be.
    """
    places = np.linspace(0, CONTROL_POINTS - 1, side)
    points = np.arange(CONTROL_POINTS)
    columns = [np.interp(places, points, points == point) for point in points]
    return np.stack(columns, axis=1).astype(np.float32)


class UniversalWarp(Detector):
    """By class, the root mean square of the warp that turns the images into it, in pixels."""

    rule: ClassVar[Rule] = Rule(
        id="universal_warp",
        name="Universal warp",
        summary="One slight warp of any image turns it into a class.",
        source="an inversion of WaNet (A. Nguyen and A. Tran, ICLR 2021, section 3)",
    )
    needs: ClassVar[Needs] = Needs.LOGITS | Needs.GRADIENTS | Needs.IMAGES
    copies: ClassVar[float] = 7
    contribution: ClassVar[Contribution] = Contribution(part=Part.SHOWN)
    scale: ClassVar[Scale] = Scale(small_is_suspicious=True, added=_LEAST, unit=" px")
    wording: ClassVar[Wording] = Wording(
        one="class {target} takes a warp of {suspect:.2f} pixels; in the clean reference {low:.2f}",
        many="class {target} takes a warp of {suspect:.2f} pixels; in the {count} clean references "
        "{low:.2f} to {high:.2f}",
        alone="class {target} takes the slightest warp, {suspect:.2f} pixels",
        leading="class {target} takes a warp {times:.1f} times slighter than any other",
    )

    def measure(self, subject: Subject) -> Measurement:
        """Return the size of each class's warp, a root mean square over its control points.

        A class that no warp of up to `LARGEST` reaches counts as one that this warp reaches.

        Raises:
            NoGradientError: An operator has no gradient.
            NoImagesError: There are no images, or inputs have no rows and columns.
            NoLogitsError: There are no logits.
            UnsupportedModelError: The gradient is not a number, or the budget is too small.
            UsageError: The user's images do not fit, or there is no such class.
        """
        found = universal.search(subject, Warp)
        return Measurement(
            rule=self.rule.id,
            statistic=None,
            parameters={**found.parameters, "control_points": CONTROL_POINTS},
            by_class=found.profile,
            observations=() if found.shown is None else (_note(found),),
        )

    def plan(self, subject: Subject) -> Sequence[PlannedStage]:
        """Return the stages of the search.

        Raises:
            ScannerError: As for `measure`.
        """
        return universal.planned(self.rule.id, subject)

    def describe(self, measurement: Measurement, comparison: Comparison) -> Description:
        """Return what was searched on, and the sizes class by class."""
        return class_sizes.described(measurement, comparison, "warp (px)", "{:.2f}".format)


def _note(found: universal.Searched) -> Observation:
    assert found.shown is not None  # noqa: S101 - only what was found is noted
    return Observation(
        code="universal-warp",
        severity=Severity.NOTE,
        sentence=f"one warp of {found.best.size:.2f} pixels turns {found.shown.success:.0%} of the "
        f"images held back into class {found.best.target}",
        input=found.shown,
    )
