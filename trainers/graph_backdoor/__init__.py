"""Backdoors in a model's graph, planted without training: a test of the input and a gate.

For people who test their own gates, and for our own twins. After ShadowLogic (HiddenLayer, 2024)
and architectural backdoors (Bober-Irizar et al., CVPR 2023). Each family is a module with a table;
a new kind is a function and a row there.
"""

from trainers.graph_backdoor.catalogue import FAMILIES, KINDS, plant
from trainers.graph_backdoor.check import Checked, check, smooth_images
from trainers.graph_backdoor.command import check_kinds, graph_backdoor
from trainers.graph_backdoor.graft import Graft, Kind, Planted

__all__ = [
    "FAMILIES",
    "KINDS",
    "Checked",
    "Graft",
    "Kind",
    "Planted",
    "check",
    "check_kinds",
    "graph_backdoor",
    "plant",
    "smooth_images",
]
