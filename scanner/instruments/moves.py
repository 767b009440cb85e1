"""A search for stamps that turn the images of one class, and leave all others what they are.

Such a backdoor is called partial, or specific to its source: its trigger moves one class, and the
attacker trained the network to keep the others under it (D. Tang, X. Wang, H. Tang and K. Zhang,
"Demon in the Variant" (TaCT), USENIX Security 2021; B. Wang et al., "Neural Cleanse", IEEE S&P
2019, section VII-E). No stamp of it turns many images, so that a search over all of them finds
nothing.

For each source s and target t, the best stamp has the largest

    share of the images of s that go to t  -  share of all other images that leave their class.

First each stamp is put on a few images of each class, then those that pull one class most, and
the others least, on all.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from scanner.instruments import kept
from scanner.instruments.answers import Answers
from scanner.instruments.detector import Progress
from scanner.instruments.probes import Images
from scanner.instruments.stamps import Floats, Kind, Scores, Selective, Stamp, margins, spread
from scanner.results import Move, Moves

Classes = npt.NDArray[np.int64]
Chosen = npt.NDArray[np.int64]
Marked = npt.NDArray[np.bool_]

FEWEST = 4  # images of a class that is moved: fewer go anywhere together
_OTHERS = 16  # images of other classes, which a stamp has to leave alone
_FOREMOST = 3
_AT_ONCE, _ELEMENTS = 512, 2**22  # images that are stamped together, and their pixels or logits


def runs(kind: Kind, effort: Selective, shape: Sequence[int], classes: int, images: int) -> int:
    """Return how many images a search puts through the model, at the most."""
    stamps = len(kind.candidates(shape, (0.0, 1.0), effort))
    pairs = classes * (classes - 1)
    return stamps * effort.each * classes + min(stamps, pairs * effort.closely) * images


class Search:
    """The stamps of one kind on images of one model.

    Args:
        kind: The kind.
        answers: The model.
        data: The images; those held back choose nothing.
        span: The lowest and the highest value of a pixel.
        effort: How much is tried.

    Attributes:
        seen: Images with the stamps on them that were found, each (1, *shape).
    """

    def __init__(
        self,
        kind: Kind,
        answers: Answers,
        data: Images,
        span: tuple[float, float],
        effort: Selective,
    ) -> None:
        self._answers, self._data, self._span, self._effort = answers, data, span, effort
        self.seen: list[Floats] = []
        self._stamps = kind.candidates(answers.shape, span, effort)
        self._plain = answers.logits(data.shown)
        self._own: Classes = self._plain.argmax(axis=1)
        self._classes = self._plain.shape[1]
        self._spread = spread(self._plain)

    def run(self, progress: Progress) -> Moves | None:
        """Return how well stamps tell each class from the others; None where there are too few.

        Args:
            progress: Called after each part of the work.
        """
        counts = np.bincount(self._own, minlength=self._classes)
        enough = (counts >= FEWEST) & (len(self._own) - counts >= _OTHERS)
        sources = np.flatnonzero(enough)
        if not len(sources):
            return None
        first, total = len(self._stamps), 2 * len(self._stamps)
        chosen = self._best(sources, progress)
        pairs = sources[:, None] != np.arange(self._classes)
        looked_at = np.unique(chosen[pairs])
        after = np.full((len(self._stamps), len(self._own)), -1)
        for part in self._parts(looked_at, len(self._own)):
            after[part] = self._stamped(part, self._data.shown).argmax(axis=2)
            progress(first + int(part[-1]) + 1, total)
        moved = after != self._own
        figures: list[list[float | None]] = [[None] * self._classes for _ in counts]
        best: list[tuple[float, int, int, int]] = []
        for row, source in enumerate(sources):
            those = self._own == source
            for target in np.flatnonzero(np.arange(self._classes) != source):
                tried = chosen[row, target]
                turned = (after[np.ix_(tried, those)] == target).mean(axis=1)
                figure = turned - moved[np.ix_(tried, ~those)].mean(axis=1)
                place = int(figure.argmax())  # of equal ones, that which pulls most
                figures[source][target] = float(figure[place])
                best.append((float(figure[place]), int(tried[place]), int(source), int(target)))
        progress(total, total)
        best.sort(key=lambda one: -one[0])
        return Moves(
            figures=tuple(map(tuple, figures)),
            foremost=tuple(self._foremost(best, after)),
        )

    def _best(self, sources: Chosen, progress: Progress) -> Chosen:
        """Return for each source and target the stamps that pull it most, and the others least.

        They are numbers of stamps, (sources, classes, closely), the best ones first. How far an
        image is pulled into a class is tanh(margin / spread), which is below 0 until it is there.
        """
        few = np.concatenate(
            [np.flatnonzero(self._own == c)[: self._effort.each] for c in range(self._classes)]
        )
        own = self._own[few]
        rows = np.arange(len(few))
        firm = self._pull(self._plain[few])[rows, own]
        scores = np.empty((len(self._stamps), len(sources), self._classes), np.float32)
        for part in self._parts(np.arange(len(self._stamps)), len(few)):
            pulls = self._pull(self._stamped(part, self._data.shown[few]))
            loose = np.maximum(firm - pulls[:, rows, own], 0)
            for row, source in enumerate(sources):
                those = own == source
                scores[part, row] = (
                    pulls[:, those].mean(axis=1) - loose[:, ~those].mean(axis=1)[:, None]
                )
            progress(int(part[-1]) + 1, 2 * len(self._stamps))
        order: Chosen = np.argsort(-scores, axis=0, kind="stable")[: self._effort.closely]
        return np.moveaxis(order, 0, 2)

    def _pull(self, logits: Scores) -> Scores:
        found = margins(logits.reshape(-1, self._classes)) / self._spread
        return np.tanh(found).reshape(logits.shape)

    def _parts(self, stamps: Chosen, images: int) -> Iterator[Chosen]:
        """Yield so many stamps at a time as fit into memory on so many images."""
        room = _ELEMENTS // max(self._classes, self._data.shown[0].size)
        step = max(1, min(_AT_ONCE, room) // images)
        for start in range(0, len(stamps), step):
            yield stamps[start : start + step]

    def _stamped(self, chosen: Chosen, images: Floats) -> Scores:
        """Return logits of images under each of some stamps, (stamps, n, classes)."""
        stamped = np.concatenate([self._stamps[number].stamped(images) for number in chosen])
        return self._answers.logits(stamped).reshape(len(chosen), len(images), self._classes)

    def _foremost(
        self, best: Sequence[tuple[float, int, int, int]], after: Classes
    ) -> Iterator[Move]:
        """Yield what the best stamps do on the images held back too, where there are enough.

        Args:
            best: Figure, stamp, source and target of each pair of classes, the best one first.
            after: The class of each image shown under each stamp, (stamps, n).
        """
        held = self._data.held_back
        own = self._answers.classes(held) if len(held) else np.empty(0, np.int64)
        found = 0
        for _, number, source, target in best:
            those = own == source
            if found == _FOREMOST:
                return
            if not those.any() or those.all():
                continue
            found += 1
            yield self._move(self._stamps[number], source, target, after[number], own)

    def _move(self, stamp: Stamp, source: int, target: int, after: Classes, own: Classes) -> Move:
        """Return what a stamp does.

        Args:
            stamp: The stamp.
            source: The class that it turns.
            target: The class that it turns it into.
            after: The class of each image shown, under it.
            own: The class of each image held back, without it.
        """
        held = self._data.held_back
        became = self._answers.classes(stamp.stamped(held))
        before, now = np.concatenate([self._own, own]), np.concatenate([after, became])
        those, others = before == source, before != source
        success = float((became[own == source] == target).mean())
        turned = (own == source) & (became == target)
        shown = held[turned if turned.any() else own == source][:1]
        stamped = stamp.stamped(shown)
        self.seen.append(stamped)
        answered = kept.Answered(
            original=shown[0],
            before=self._answers.logits(shown),
            after=self._answers.logits(stamped),
            success=success,
        )
        return Move(
            source=source,
            target=target,
            stamp=stamp.described(),
            details=stamp.details,
            turned=int((now[those] == target).sum()),
            images=int(those.sum()),
            strayed=int((now != before)[others].sum()),
            others=int(others.sum()),
            success=success,
            steady=float((became == own)[own != source].mean()),
            input=kept.pictured(stamped[0], self._span, answered),
        )
