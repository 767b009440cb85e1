"""The detectors, in the order of the report. To add one: a file here, a row in `DETECTORS`, a row in the test table."""

from scanner.detectors.base import Detector
from scanner.detectors.channel_lipschitz import ChannelLipschitz
from scanner.detectors.graph_logic import GraphLogic
from scanner.detectors.head import Head
from scanner.detectors.integrity import Integrity
from scanner.detectors.layerwise import Layerwise
from scanner.detectors.mm_bd import MmBd
from scanner.detectors.neural_cleanse import NeuralCleanse
from scanner.detectors.overactivation import Overactivation

DETECTORS: tuple[Detector, ...] = (
    # Those that read the file come first: a model that never ends may cost what comes after them.
    Integrity(),
    GraphLogic(),
    NeuralCleanse(),
    MmBd(),
    Overactivation(),
    Layerwise(),
    ChannelLipschitz(),
    Head(),
)
