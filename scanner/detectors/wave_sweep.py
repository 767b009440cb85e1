"""Wave sweep: faint sinusoids over the whole image, and which images they turn.

Source: the trigger is M. Barni, K. Kallas and B. Tondi, "A New Backdoor Attack in CNNs by Training
Set Corruption without Label Poisoning" (SIG), ICIP 2019. That some such wave turns many images of a
clean network is Y. Tsuzuku and I. Sato, "On the Structural Sensitivity of Deep Convolutional
Networks to the Directions of Fourier Basis Functions", CVPR 2019. Ours are the waves
(`instruments.waves`) and the bounds (`instruments.sweeps`).
"""

from typing import ClassVar

from scanner.instruments.sweeps import SweepDetector, wording
from scanner.instruments.waves import Waves
from scanner.results import Rule, Wording


class WaveSweep(SweepDetector):
    """By class, the share of images that the best faint wave turns into it."""

    rule: ClassVar[Rule] = Rule(
        id="wave_sweep",
        name="Wave sweep",
        summary="A faint wave turns nearly all images into one class, or moves every class.",
        source="M. Barni et al., ICIP 2019 (SIG); Y. Tsuzuku and I. Sato, CVPR 2019",
    )
    kind: ClassVar[Waves] = Waves()
    wording: ClassVar[Wording] = wording("a faint wave")
