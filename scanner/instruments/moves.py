"""A search for stamps that turn the images of one class, and leave all others what they are.

Such a backdoor is called partial, or specific to its source: its trigger moves one class, and the
attacker trained the network to keep the others under it (D. Tang, X. Wang, H. Tang and K. Zhang,
"Demon in the Variant" (TaCT), USENIX Security 2021; B. Wang et al., "Neural Cleanse", IEEE S&P
2019, section VII-E). No stamp of it turns many images, so that a search over all of them finds
nothing.

For each source s and target t, the best stamp has the largest

    share of the images of s that go to t  -  share of all other images that leave their class.

First each stamp is put on a few images of each class. For each pair of classes, the one that pulls
the source most and the others least is then moved and made smaller: such triggers are exact, since
the network has learnt to keep its classes under anything else. The best are put on all images. Of
many classes only the most promising pairs come so far; of the others the figure is that of the few
images.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scanner.instruments import stamps
from scanner.instruments.answers import Answers
from scanner.instruments.detector import Progress
from scanner.instruments.label_map import Classes
from scanner.instruments.stamps import Effort, Floats, Kind, Scores, Stamp
from scanner.results import Move, Moves

Pair = tuple[int, int]

FEWEST = 4  # images of a class that is moved: fewer go anywhere together
MOST = 8  # of each class
HELD_BACK = 3  # one image of a class in so many, one at least, and at most half of `MOST`
_OTHERS = (16, 4)  # images of other classes, which a stamp has to leave alone: shown, held back
_ROOM = 132 * 96  # pairs that are looked at closely, times images: all of twelve classes
_FOREMOST, _PICTURED = 10, 3  # pairs that are kept, and those with a picture
_HIGH = 0.5  # the figure of a pair that may be foremost
_NO_CLASS = -1  # of an answer that is not finite


class _Start(NamedTuple):
    """The stamp to start from, of a source and a target.

    Attributes:
        stamp: The stamp.
        score: How far it pulls a few images of the source, less how far it loosens others.
        figure: What `Moves.figures` is, on these.
    """

    stamp: Stamp
    score: float
    figure: float


class Search:
    """The stamps of one kind on images of one model.

    Args:
        kind: The kind.
        answers: The model.
        images: Of all classes, (n, *shape); some of each are held back and choose nothing.
        span: The lowest and the highest value of a pixel.

    Attributes:
        seen: Images with the stamps on them that were found, each (1, *shape).

    Raises:
        UnsupportedModelError: A logit is not a finite number.
    """

    def __init__(
        self, kind: Kind, answers: Answers, images: Floats, span: tuple[float, float]
    ) -> None:
        self._kind, self._answers, self._span = kind, answers, span
        logits = stamps.finite(answers, images)
        self._classes = logits.shape[1]
        self._spread = stamps.spread(logits)
        shown, held = _divided(logits.argmax(axis=1))
        self._images, self._plain, self._held = images[shown], logits[shown], images[held]
        self._own: Classes = self._plain.argmax(axis=1)
        self._held_own: Classes = logits[held].argmax(axis=1)
        self.seen: list[Floats] = []

    def runs(self, effort: Effort) -> int:
        """Return how many images `run` puts through the model with a stamp on them, at the most.

        Those held back, under a few stamps, are not among them, nor those of pairs that are wanted.
        """
        shape, sources = self._answers.shape, len(self._sources())
        if not sources:
            return 0
        candidates = len(self._kind.candidates(shape, self._span, effort))
        near = self._kind.most_near(shape) * 2 * effort.glance
        closely = near + (1 + effort.closely) * len(self._own)
        pairs = min(sources * (self._classes - 1), self._most_pairs)
        runs: int = candidates * len(self._glanced(effort)) + pairs * closely
        return runs

    def run(self, effort: Effort, progress: Progress, wanted: Sequence[Pair] = ()) -> Moves | None:
        """Return how well stamps tell each class from the others; None where there are too few.

        Args:
            effort: How much is tried.
            progress: Called after each part of the work.
            wanted: Pairs to look at closely, however promising, ten at the most: for a reference
                those that stand out in its suspect.
        """
        sources = self._sources()
        if not sources:
            return None
        starts = self._starts(sources, effort)
        promising = sorted(starts, key=lambda pair: (-starts[pair].figure, -starts[pair].score))
        chosen = {
            *promising[: self._most_pairs],
            *(pair for pair in wanted[:_FOREMOST] if pair in starts),
        }
        progress(1, 3)
        tried = dict(self._closer({pair: starts[pair] for pair in sorted(chosen)}, effort))
        progress(2, 3)
        looked_at = [*dict.fromkeys(itertools.chain(*tried.values()))]
        everyone = np.arange(len(self._own))
        after = {stamp: _classes(logits) for stamp, logits in self._stamped(looked_at, everyone)}
        figures: list[list[float | None]] = [[None] * self._classes for _ in range(self._classes)]
        for (source, target), start in starts.items():
            figures[source][target] = start.figure
        best: dict[Pair, Stamp] = {}
        for (source, target), some in tried.items():
            known = {stamp: self._figure(after[stamp], source, target) for stamp in some}
            best[source, target] = max(some, key=lambda stamp: (known[stamp], -stamp.size))
            figures[source][target] = known[best[source, target]]
        high = {pair: f for pair in best if (f := figures[pair[0]][pair[1]] or 0.0) >= _HIGH}
        foremost = sorted(high, key=lambda pair: -high[pair])[:_FOREMOST]
        progress(3, 3)
        return Moves(
            figures=tuple(map(tuple, figures)),
            foremost=tuple(
                self._move(best[pair], *pair, after[best[pair]], pictured=place < _PICTURED)
                for place, pair in enumerate(foremost)
            ),
        )

    @property
    def _most_pairs(self) -> int:
        """Pairs that are looked at closely."""
        return max(_FOREMOST, _ROOM // len(self._own))

    def _sources(self) -> list[int]:
        """Return the classes of which there are enough images, shown and held back."""
        counts, held = (
            np.bincount(c, minlength=self._classes) for c in (self._own, self._held_own)
        )
        enough = counts >= FEWEST
        enough &= (counts.sum() - counts >= _OTHERS[0]) & (held.sum() - held >= _OTHERS[1])
        sources: list[int] = np.flatnonzero(enough).tolist()
        return sources

    def _figure(self, after: Classes, source: int, target: int) -> float:
        """Return how well a stamp tells a class from the others (`Moves.figures`).

        Args:
            after: The class of each image under it, (n,).
            source: The class.
            target: Where its images are to go.
        """
        those = self._own == source
        return float((after[those] == target).mean() - (after != self._own)[~those].mean())

    def _starts(self, sources: Sequence[int], effort: Effort) -> dict[Pair, _Start]:
        """Return for each source and target the stamp that pulls it most, and the others least.

        How far an image is pulled into a class is tanh(margin / spread), which is below 0 until it
        is there.
        """
        candidates = self._kind.candidates(self._answers.shape, self._span, effort)
        few = self._glanced(effort)
        own, rows = self._own[few], np.arange(len(few))
        firm = self._pull(self._plain[few])[rows, own]
        those = own == np.array(sources)[:, None]
        of_source, of_others = (w / w.sum(axis=1, keepdims=True) for w in (those, ~those))
        best = np.full((len(sources), self._classes), -np.inf)
        figures, chosen = np.zeros_like(best), np.zeros(best.shape, int)
        for place, (_, logits) in enumerate(self._stamped(candidates, few)):
            pulls, after = self._pull(logits), _classes(logits)
            loose = np.maximum(firm - pulls[rows, own], 0)
            into = of_source @ pulls - (of_others @ loose)[:, None]
            if (better := into > best).any():
                went = (after[:, None] == np.arange(self._classes)).astype(float)
                figure = of_source @ went - (of_others @ (after != own))[:, None]
                best[better], figures[better], chosen[better] = into[better], figure[better], place
        return {
            (source, target): _Start(
                stamp=candidates[chosen[row, target]],
                score=float(best[row, target]),
                figure=float(figures[row, target]),
            )
            for row, source in enumerate(sources)
            for target in range(self._classes)
            if target != source
        }

    def _closer(
        self, starts: Mapping[Pair, _Start], effort: Effort
    ) -> Iterator[tuple[Pair, list[Stamp]]]:
        """Yield for each source and target the stamps to be put on all images.

        That is the one to start from, and those around it that pull the source most.

        Args:
            starts: Pairs of one source follow each other.
            effort: How much is tried.
        """
        shape = self._answers.shape
        for source, pairs in itertools.groupby(starts, key=lambda pair: pair[0]):
            near = {pair: [*self._kind.near(starts[pair].stamp, shape)] for pair in pairs}
            around = [*dict.fromkeys(itertools.chain(*near.values()))]
            few = self._few([source], 2 * effort.glance)
            pulls = {
                stamp: self._pull(logits).mean(axis=0)
                for stamp, logits in self._stamped(around, few)
            }
            for pair, some in near.items():
                order = sorted(some, key=lambda stamp: (-pulls[stamp][pair[1]], stamp.size))
                chosen = (starts[pair].stamp, *order[: effort.closely])
                yield pair, [*dict.fromkeys(chosen)]

    def _glanced(self, effort: Effort) -> Classes:
        """Return the places of the images that each stamp of the first round is put on."""
        return self._few(range(self._classes), effort.glance)

    def _few(self, classes: Sequence[int], each: int) -> Classes:
        """Return the places of the first images of each of some classes."""
        return np.concatenate([np.flatnonzero(self._own == c)[:each] for c in classes])

    def _pull(self, logits: Scores) -> Scores:
        pulled: Scores = np.tanh(stamps.margins(logits) / self._spread)
        return pulled

    def _stamped(self, some: Sequence[Stamp], chosen: Classes) -> Iterator[tuple[Stamp, Scores]]:
        """Yield stamps and the logits of some images under each of them, (n, classes)."""
        return stamps.answered(self._answers, some, self._images[chosen], self._classes)

    def _move(
        self, stamp: Stamp, source: int, target: int, after: Classes, *, pictured: bool
    ) -> Move:
        """Return what a stamp does, on the images held back too.

        Args:
            stamp: The stamp.
            source: The class that it turns.
            target: The class that it turns it into.
            after: The class of each image shown, under it.
            pictured: Whether an image with it is kept.
        """
        became = _classes(self._answers.logits(stamp.stamped(self._held)))
        own = self._held_own
        before, now = np.concatenate([self._own, own]), np.concatenate([after, became])
        those, others = before == source, before != source
        success = float((became[own == source] == target).mean())
        picture = None
        if pictured:  # an image that it turns; where it turns none, any
            place = int(((own == source) & (became == target)).argmax())
            image = self._held[place : place + 1]
            self.seen.append(stamp.stamped(image))
            picture = stamps.pictured(self._answers, stamp, image, self._span, success)
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
            input=picture,
        )


def _divided(own: Classes) -> tuple[Classes, Classes]:
    """Return the places of the images of each class that are shown, and of those held back.

    Args:
        own: The class of each image, (n,).
    """
    shown, held = [], []
    for class_id in np.unique(own):
        places = np.flatnonzero(own == class_id)
        back = min(max(len(places) // HELD_BACK, 1), MOST // 2) if len(places) > 1 else 0
        held.append(places[:back])
        shown.append(places[back : back + MOST])
    return np.sort(np.concatenate(shown)), np.sort(np.concatenate(held))


def _classes(logits: Scores) -> Classes:
    """Return the class of each image, (n,); none of an answer that is not finite."""
    known = np.isfinite(logits).all(axis=1)
    return np.where(known, logits.argmax(axis=1), _NO_CLASS)
