"""Hard negatives: of a pool of backgrounds, those that the network takes for objects.

Letters for shapes: B regions of this process' share of a minibatch.
"""

import torch

from training.rcnn.dataloader import Minibatch
from training.rcnn.losses import Targets
from training.rcnn.training_module import RegionLearner
from training.trainer.distributed import World


@torch.no_grad()
def keep_hardest(
    batch: Minibatch, learner: RegionLearner, pool: int, keep: int, world: World, precision: torch.dtype
) -> Minibatch:
    """The minibatch without the easier part of its pool of backgrounds.

    Of ``pool`` places, shared by all processes, those ``keep`` stay whose regions the network is least sure
    are background, by one look without dropout (Shrivastava et al., arXiv 1604.03540).
    """
    mine = torch.nonzero(batch.slots >= 0)[:, 0]
    surprise = torch.full((pool,), 0.0, device=batch.maps.device)
    if len(mine):
        learner.eval()
        targets = Targets(*(part[mine] for part in batch.targets))
        _, logits = learner(batch.maps[mine], targets, None, precision)
        learner.train()
        # Above 0 for every region, so that a place of the pool that holds none is never chosen before one.
        surprise[batch.slots[mine]] = -logits.log_softmax(dim=1)[:, -1] + torch.finfo(torch.float32).eps
    surprise = world.total(surprise)
    hardest = torch.zeros_like(surprise, dtype=torch.bool)
    hardest[surprise.topk(keep).indices] = True
    stays = torch.nonzero((batch.slots < 0) | hardest[batch.slots.clamp_min(0)])[:, 0]
    return Minibatch(batch.maps[stays], Targets(*(part[stays] for part in batch.targets)), batch.slots[stays])
