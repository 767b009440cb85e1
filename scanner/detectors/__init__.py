"""The detectors, in the order of the report. To add one: a file here, a row in `DETECTORS`, a row in the test table."""

from scanner.detectors.base import Detector
from scanner.detectors.mm_bd import MmBd
from scanner.detectors.neural_cleanse import NeuralCleanse
from scanner.detectors.overactivation import Overactivation

DETECTORS: tuple[Detector, ...] = (NeuralCleanse(), MmBd(), Overactivation())
