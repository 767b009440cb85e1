"""Patch sweep: small patches of one colour at every place, and which images they turn.

Source: the square in the corner is T. Gu, B. Dolan-Gavitt and S. Garg, "BadNets", 2017; that a
backdoor is found by trying small changes one after another, without a gradient, is S. Huang et al.,
"One-Pixel Signature: Characterizing CNN Models for Backdoor Detection", ECCV 2020. They give the
answers to a classifier that learnt from many networks; ours are the patches (`instruments.patches`)
and the bounds (`instruments.sweeps`).
"""

from typing import ClassVar

from scanner.instruments.patches import Patches
from scanner.instruments.sweeps import SweepDetector, wording
from scanner.results import Rule, Wording


class PatchSweep(SweepDetector):
    """By class, the share of images that the best small patch of one colour turns into it."""

    rule: ClassVar[Rule] = Rule(
        id="patch_sweep",
        name="Patch sweep",
        summary="A small plain patch turns nearly all images into one class, moves every class, "
        "or one class alone.",
        source="S. Huang et al., One-Pixel Signature, ECCV 2020; T. Gu et al., BadNets, 2017",
    )
    kind: ClassVar[Patches] = Patches()
    wording: ClassVar[Wording] = wording("a small patch of one colour")
