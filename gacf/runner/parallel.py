"""One seed over several devices: the examples of a batch are spread, the parameters are not.

    ∇ mean_b loss_b  =  mean over devices of (∇ mean over the device's own examples)

Only the batch is spread here; XLA's partitioner does the rest. So a step means the same as on one
device, including batch statistics and penalties. Devices exchange only the sums over the batch: for
plain losses each player's gradients and a few reported numbers, in one all-reduce per move.
"""

from __future__ import annotations

import jax
from jax.sharding import PartitionSpec

from gacf.core.game import Game
from gacf.core.types import Batch, Key, World

AXIS = "batch"


def _spread(batch: Batch) -> Batch:
    size = dict(jax.sharding.get_abstract_mesh().shape).get(AXIS, 1)
    if size == 1:
        return batch

    def spread(path: jax.tree_util.KeyPath, x: jax.Array) -> jax.Array:
        if not x.ndim:
            return x
        if x.shape[0] % size:
            raise ValueError(
                f"mesh: {size} devices share a batch whose leaf {jax.tree_util.keystr(path)} has "
                f"shape {list(x.shape)}; allowed: a first axis that is a multiple of {size}"
            )
        return jax.lax.with_sharding_constraint(x, PartitionSpec(AXIS))

    return jax.tree_util.tree_map_with_path(spread, batch)


def data_parallel(game: Game) -> Game:
    """The game with its batches spread over the devices of a mesh's axis "batch", if there is one.

    Without such an axis, and on one device, it is the game itself. Use it for a game with large
    networks, which keep a device busy with a share of the batch. Seeds do not need it, because
    `run` spreads them already.

    Args:
        game: a game whose batches have the examples on the first axis, [B, …], like those of GANs
            and of off-policy methods. B must be a multiple of the number of devices that share it.
            Scalars are left as they are.

    Example:
        >>> import gacf, jax, numpy as np, optax
        >>> from gacf.networks import MLP
        >>> from jax.sharding import Mesh
        >>> ring = gacf.data.ring()
        >>> game = gacf.gan(MLP((8,), (2,)), MLP((8,)), ring, batch_size=16, noise=2)
        >>> adam = {player: optax.adam(1e-3) for player in game.losses}
        >>> algorithm = gacf.compose(gacf.data_parallel(game), gacf.rules.alternating(adam))
        >>> mesh = Mesh(np.array(jax.devices()), ("batch",))
        >>> state, metrics = gacf.run(algorithm, jax.random.key(0), 2, mesh=mesh)
    """

    def sample(world: World, key: Key) -> Batch:
        return _spread(game.sample(world, key))

    return game._replace(sample=sample)
