"""Generative adversarial networks, Goodfellow et al. 2014, as actor-critic methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from gacf.core.checks import lookup, require, whole
from gacf.core.clock import steps_made
from gacf.core.game import Game
from gacf.core.rows import where_rows
from gacf.core.types import Batch, Key, Metrics, Params, PyTree, World
from gacf.data import Feed
from gacf.methods.actor_critic import Source, actor_critic, pathwise, reward_target
from gacf.methods.actor_critic.constructor import Penalty
from gacf.methods.actor_critic.improve import Evidence, Improve
from gacf.methods.gan import inputs
from gacf.methods.gan.losses import LOSSES, GanLoss
from gacf.methods.gan.proposals import DRAWS, ProposedSamples, by_actor
from gacf.methods.gan.relativistic import Judged, in_pairs
from gacf.methods.gan.targets import check_transform
from gacf.networks import model
from gacf.networks.labels import check_labels, classes_read
from gacf.networks.network import as_inputs

Draw = Callable[[Key, int], Any]


def _drawer(name: str, given: Any) -> Draw:
    """A sampler `(key, n) -> [n, …]`, from a sampler, an object with one, or one or two arrays."""
    if hasattr(given, "sample"):
        return given.sample
    if callable(given):
        return cast(Draw, given)
    labelled = isinstance(given, tuple)
    arrays = [jnp.asarray(part) for part in (given if labelled else (given,))]
    counts = {array.shape[:1] for array in arrays}
    if len(arrays) != 1 + labelled or len(counts) != 1 or not min(counts) or min(counts) == (0,):
        shapes = " and ".join(str(array.shape) for array in arrays)
        raise ValueError(
            f"{name}: shape {shapes} was given; allowed: [n, …] with n >= 1, or that and labels [n]"
        )

    def draw(key: Key, n: int) -> Any:
        rows = jax.random.randint(key, (n,), 0, arrays[0].shape[0])
        drawn = tuple(array[rows] for array in arrays)
        return drawn if labelled else drawn[0]

    return draw


def _known(data: Any, rows_of: Draw, n: int) -> Any:
    """All examples and labels, or n of them from a sampler; only shapes if no number is known.

    The labels of a sampler are checked in one draw, which is cheap and finds labels that never fit;
    those of a feed are checked in records spread over its source.
    """

    def on_host(x: Any) -> Any:
        return x if isinstance(x, jax.core.Tracer) else np.asarray(x)

    if not (hasattr(data, "sample") or callable(data)):
        return tuple(map(on_host, data)) if isinstance(data, tuple) else on_host(data)
    shapes = jax.eval_shape(lambda: rows_of(jax.random.key(0), n))
    if not isinstance(shapes, tuple):
        return shapes
    if isinstance(data, Feed):
        return shapes[0], data.spread(n)[1]
    with jax.ensure_compile_time_eval():
        return shapes[0], rows_of(jax.random.key(0), n)[1]


def _packed(x: jax.Array, pack: int) -> jax.Array:
    """[B, …, C] -> [B/pack, …, pack·C]: neighbours in the batch become one example."""
    if pack == 1:
        return x
    x = x[:, None] if x.ndim == 1 else x
    x = jnp.moveaxis(x.reshape(-1, pack, *x.shape[1:]), 1, -2)
    return x.reshape(*x.shape[:-2], -1)


def _of_both(pair: GanLoss) -> Improve:
    """The loss −mean utility(C(A(z))) − mean real_utility(C(real))."""

    def improve(own: PyTree, evidence: Evidence) -> tuple[jax.Array, Metrics, World]:
        action, entries = evidence.propose(own)
        verdicts = evidence.judge(action)
        fake = jnp.mean(pair.utility(verdicts["fake"]))
        return -fake - jnp.mean(pair.real_utility(verdicts["real"])), {}, entries

    return improve


def gan(
    generator: Any,
    discriminator: Any,
    data: Any,
    loss: str | GanLoss = "non_saturating",
    batch_size: int = 128,
    noise: int | Draw = 64,
    show: str = "both",
    transform_target: Callable[[jax.Array], jax.Array] = lambda target: target,
    penalty: Penalty | None = None,
    real_term: bool = False,
    pack: int = 1,
    instance_noise: float | jax.Array | Callable[[jax.Array], Any] | None = None,
    evaluate: Callable[[Any, Key], Metrics] | None = None,
    samples: int = 2_500,
) -> Game:
    """A GAN as a setting of `actor_critic`: the Markov decision process of Pfau & Vinyals (2016).

    The actor is blind: it sees only noise, and sets every pixel. The environment shows the critic
    the actor's image or a real one, and the reward is 1 for a real image. The discount is 0, so
    that the critic's target is the reward, and its divergence is cross-entropy.

        critic   min_φ  mean D(1 ‖ C_φ(real)) + mean D(0 ‖ C_φ(A(z)))
        actor    max_θ  mean utility(C(A_θ(z)))

    Data with labels make it conditional: the actor sees the label of a real example together with
    the noise, and the critic sees it together with the example, real or generated for that label.

    Args:
        generator: the actor's network, noise [B, Z] -> [B, …]; with labels `(noise, label)`.
        discriminator: the critic's network, [B, …] -> logits [B] or [B, 1]; with labels
            `(example, label)`.
        data: an array [n, …], a sampler `(key, n) -> [n, …]`, or an object with one (`.sample`);
            with labels a pair of arrays, or a sampler of pairs. A `gacf.data.Feed` reads ahead
            data that do not fit into memory. Examples are finite real numbers in the generator's
            range. Bytes 0 … 255 must be converted: for a tanh, to x / 127.5 − 1.
        loss: a name in `LOSSES`, or a `GanLoss`.
        batch_size: B, the number of real and of fake examples.
        noise: Z of a standard normal, or a sampler `(key, n) -> [n, …]`.
        show: "both" shows the critic B real and B fake examples; "bernoulli" is the paper's
            environment to the letter: B examples, each real with probability ½. Its gradients
            are half as large in expectation.
        transform_target: transforms the labels, [B] -> [B]: label smoothing. It works with losses
            that have a best verdict for a label between 0 and 1: cross-entropies, squares and
            f-divergences.
        penalty: added to the critic's loss, `(judge, groups, key) -> scalar`, for instance `r1`. It
            needs verdicts that depend on one example alone: no batch normalisation (the default of
            `DCGANCritic`; choose `norm="layer"`) and no minibatch discrimination.
        real_term: whether the actor's loss holds the real examples too. They add nothing to its
            own gradient, but the critic's response changes the verdicts on them: an actor that
            looks ahead (`unrolled`, `implicit`, `lola`) needs them. With "minimax", "wasserstein"
            and f-divergences the actor's loss is then minus the critic's (apart from its penalty
            and smoothed labels). A relativistic actor always sees the real examples.
        pack: the critic sees k examples of a group at once, as one example with k times the
            channels; from B examples it judges B/k such packs (Lin et al. 2018).
        instance_noise: standard deviation of normal noise added to everything that the critic sees,
            in the actor's loss too; or a function of the step. 0 is off, to the bit.
        evaluate: `(samples [n, …], key) -> metrics`, for samples made in evaluation mode; with
            labels it gets `(samples, labels)`.
        samples: n for `evaluate`.

    Returns:
        A `Game` of the players `actor` and `critic`; the batch is a dict of `real` and `noise`,
        and of `label` if there are labels.

    Raises:
        ValueError: a name is unknown (the message suggests the nearest), a size is below 1, two
            arguments exclude each other, or networks, noise, labels and data do not fit each other.
            All of this is checked here, once.

    Warns:
        UserWarning: an array of examples is outside the range of a generator that ends in tanh or
            the logistic function, or images are in [0, 1] and the generator ends in tanh.

    Reference:
        Goodfellow et al. 2014; Pfau & Vinyals 2016, section 3. Packing: Lin et al. 2018. Instance
        noise: Sønderby et al. 2017.

    Example:
        >>> import gacf, optax
        >>> from gacf.networks import MLP
        >>> game = gacf.gan(MLP((8,), (2,)), MLP((8,)), gacf.data.ring(), noise=2)
        >>> rule = gacf.rules.alternating({p: optax.adam(1e-3) for p in ("actor", "critic")})
        >>> algorithm = gacf.compose(game, rule)
    """
    pair = lookup("loss", loss, LOSSES) if isinstance(loss, str) else loss
    require("batch_size", batch_size, whole, "a whole number >= 1")
    require("samples", samples, whole, "a whole number >= 1")
    require("pack", pack, lambda k: whole(k) and batch_size % k == 0, "a divisor of batch_size")
    lookup("show", show, dict.fromkeys(("both", "bernoulli")))
    coin_tossed = show == "bernoulli"
    if coin_tossed and real_term:
        raise ValueError(f"real_term: True was given; allowed with show={show!r}: False")
    if not callable(instance_noise):
        require("instance_noise", instance_noise, lambda s: s is None or s >= 0, "a number >= 0")
    actor = model("actor", generator)
    critic = model("critic", discriminator)
    feed = data if isinstance(data, Feed) else None
    rows_of = _drawer("data", data)
    known = _known(data, rows_of, batch_size)
    labelled = isinstance(known, tuple)
    examples = known[0] if labelled else known
    inputs.check_examples("data", examples)
    latent = noise if callable(noise) else normal(noise)
    if labelled and pack > 1:
        raise ValueError(f"pack: {pack} was given; allowed with labelled data: 1")
    packs = batch_size // pack

    def real(world: World, key: Key, n: int) -> Any:
        return rows_of(key, n) if feed is None else feed.draw(world["data"], key, n)

    def begin(key: Key) -> World:
        return {} if feed is None else {"data": feed.init(key)}

    def read_on(params: Params, world: World, key: Key) -> tuple[World, Metrics]:
        del params, key
        assert feed is not None
        return {**world, "data": feed.refresh(world["data"])}, {}

    def sample(world: World, key: Key) -> Batch:
        real_key, noise_key, coin_key, blur_key = jax.random.split(key, 4)
        rows, *label = as_inputs(real(world, real_key, batch_size))
        batch = {"real": rows, "noise": latent(noise_key, batch_size)}
        if labelled:
            batch["label"] = label[0]
        if coin_tossed:
            batch["coin"] = jax.random.bernoulli(coin_key, 0.5, (packs,))
        if instance_noise is not None:
            deviation: Any = instance_noise
            size: Any = deviation(steps_made(world)) if callable(deviation) else deviation
            blur = jax.random.normal(blur_key, (2, *rows.shape), rows.dtype)
            batch["blur"] = (size * blur).astype(rows.dtype)
        return batch

    def sees(batch: Batch) -> Any:
        return (batch["noise"], batch["label"]) if labelled else batch["noise"]

    def view(batch: Batch, action: PyTree) -> dict[str, Any]:
        groups = {"real": batch["real"], "fake": action}
        if instance_noise is not None:
            groups = {name: groups[name] + batch["blur"][i] for i, name in enumerate(groups)}
        if coin_tossed:
            coin = jnp.repeat(batch["coin"], pack)
            groups = {"shown": where_rows(coin, groups["real"], groups["fake"])}
        if labelled:
            return {name: (x, batch["label"]) for name, x in groups.items()}
        return {name: _packed(x, pack) for name, x in groups.items()}

    def rewards(batch: Batch) -> dict[str, jax.Array]:
        if coin_tossed:
            return {"shown": batch["coin"].astype(batch["real"].dtype)}
        ones = jnp.ones(packs, batch["real"].dtype)
        return {"real": ones, "fake": jnp.zeros_like(ones)}

    def conditions(world: World, key: Key, n: int) -> Any:
        """What the actor sees when it is evaluated; labels are those of real examples."""
        if not labelled:
            return latent(key, n)
        noise_key, label_key = jax.random.split(key)
        return latent(noise_key, n), real(world, label_key, n)[1]

    def measure(params: Params, world: World, key: Key) -> Metrics:
        draw_key, metric_key = jax.random.split(key)
        if evaluate is None:
            return {}
        actor_inputs = conditions(world, draw_key, samples)
        drawn = generate(actor, params, world, draw_key, samples, lambda key, n: actor_inputs)
        return evaluate((drawn, actor_inputs[1]) if labelled else drawn, metric_key)

    def like() -> Any:
        key = jax.random.key(0)
        return sees(sample(begin(key), key))

    judged = Judged(
        critic=critic,
        view=view,
        rewards=rewards,
        divergence=pair.divergence,
        # The utility of a real example does not depend on the actor: left out, it costs nothing.
        improve=_of_both(pair)
        if real_term
        else pathwise(pair.utility, of=None if coin_tossed else ("fake",)),
        penalty=penalty,
    )
    if pair.relativistic and coin_tossed:
        raise ValueError(f"show: {show!r} was given; allowed with a relativistic loss: 'both'")

    def check_players() -> None:
        """Checks networks, noise and data against each other without computing any number."""
        key = jax.random.key(0)
        batch = jax.eval_shape(lambda key: sample(begin(key), key), key)

        def make(batch: Batch) -> Any:
            params, entries = actor.init(key, *as_inputs(sees(batch)))
            drawn = actor.apply(params, entries, *as_inputs(sees(batch)), key=key)[0]
            return params, entries, drawn

        def judge(batch: Batch, actor_params: PyTree, drawn: Any) -> Any:
            critic_inputs = as_inputs(next(iter(view(batch, drawn).values())))
            params, entries = critic.init(key, *critic_inputs)
            bound = critic.given({"actor": actor_params, "critic": params})
            return bound.apply(params, entries, *critic_inputs, key=key)[0]

        with classes_read() as class_counts:
            params, _, drawn = inputs.traced("generator", sees(batch), make, batch)
            inputs.check_samples("generator", drawn, "data", batch["real"])
            critic_inputs = (batch["real"], *as_inputs(sees(batch))[1:])
            verdict = inputs.traced("discriminator", critic_inputs, judge, batch, params, drawn)
            inputs.check_output("discriminator", verdict, [(packs,), (packs, 1)])
        if labelled and jnp.issubdtype(known[1].dtype, jnp.integer) and len(known[1].shape) == 1:
            for classes in class_counts or (None,):
                check_labels(known[1], classes)
        if isinstance(examples, np.ndarray):
            limits = inputs.reached(lambda batch: make(batch)[2], batch)
            inputs.warn_of_range("data", examples, limits)

    check_players()
    judged = in_pairs(judged) if pair.relativistic else judged
    with jax.ensure_compile_time_eval():
        # a coin decides which examples are real and which are generated
        tossed = {"real": jnp.zeros(0, examples.dtype), "coin": jnp.arange(packs) % 2 == 0}
        labels = judged.rewards(tossed)
    check_transform(transform_target, labels, judged.divergence, loss)
    return actor_critic(
        actor,
        judged.critic,
        source=Source(
            begin,
            sample,
            read_on if feed else None,
            measure,
            propose=ProposedSamples(by_actor(actor), like, conditions),
        ),
        view=judged.view,
        target=reward_target(judged.rewards),
        divergence=judged.divergence,
        improve=judged.improve,
        sees=sees,
        transform_target=transform_target,
        penalty=judged.penalty,
    )


def normal(size: int) -> Draw:
    """Standard normal noise, `(key, n) -> [n, Z]`."""
    require("noise", size, whole, "a whole number >= 1, or a sampler `(key, n) -> [n, …]`")
    return lambda key, n: jax.random.normal(key, (n, size))


def generate(
    generator: Any, params: Params, world: World, key: Key, n: int, noise: int | Draw = 64
) -> jax.Array:
    """Samples of the actor in evaluation mode, [n, …].

    Args:
        generator: the actor's network, as given to `gan`.
        params: all players' params of one seed.
        world: its world, which holds the actor's running statistics.
        key: the key of the noise.
        n: the number of samples.
        noise: as given to `gan`; a conditional generator needs a sampler of `(noise, label)`.
    """
    latent = noise if callable(noise) else normal(noise)
    actor = model("actor", generator)
    # a network may draw noise of its own, in evaluation mode too
    draw_key = jax.random.fold_in(key, DRAWS)
    return actor.apply(
        params["actor"], world, *as_inputs(latent(key, n)), key=draw_key, train=False
    )[0]
