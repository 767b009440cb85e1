"""A network's training step as CUDA graphs: recorded once, replayed in each step.

The kernels of a network for small images end sooner than Python starts the next ones.
"""

import copy
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainers.attacks.base import Attack
from trainers.recipes import Recipe


def is_possible(
    recipe: Recipe, attack: Attack, images: int, optimisers: Sequence[torch.optim.Optimizer]
) -> bool:
    """Whether each step runs the network once, on images alike, and needs no gradient of them.

    Args:
        recipe: What is trained.
        attack: On it.
        images: Training images there are.
        optimisers: The network's, and the trigger's where it learns.
    """
    return (
        images >= recipe.batch
        and not recipe.regime.adversarial
        and not recipe.sides
        and attack.penalty is None
        and len(optimisers) == 1
    )


def record(network: nn.Module, images: Tensor, dtype: torch.dtype) -> None:
    """Have CUDA record the network's passes forward and backward, and replay them from then on.

    In evaluation mode the network runs as ever.

    Args:
        network: On a CUDA device; left in training mode.
        images: A batch as all steps will have it; what is in it does not matter.
        dtype: In which the passes compute.
    """
    before = copy.deepcopy(network.state_dict())
    # PyTorch says both of any recorded network; neither changes a result.
    warnings.filterwarnings("ignore", "The AccumulateGrad node's stream does not match")
    warnings.filterwarnings("ignore", "Attempting to run cuBLAS")
    network.train()
    with torch.autocast("cuda", dtype, enabled=dtype is not torch.float32, cache_enabled=False):
        torch.cuda.make_graphed_callables(network, (images,))
    network.load_state_dict(before)  # recording has moved the statistics of normalisation
