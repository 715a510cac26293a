"""Games of more than two models. To add one, write a file in this folder and add a line here."""

from gacf.methods.flows.adversarial_autoencoder import adversarial_autoencoder
from gacf.methods.flows.bigan import bigan
from gacf.methods.flows.conditional import Labelled, Projection, conditional_critic
from gacf.methods.flows.domain_adversarial import domain_adversarial, ramp
from gacf.methods.flows.imitation import airl, gail, rewarded
from gacf.methods.flows.infogan import coded_noise, infogan
from gacf.methods.flows.lapgan import (
    down,
    draw_pyramid,
    lapgan,
    laplacian_pyramid,
    reconstruct,
    side_by_side,
    up,
)
from gacf.methods.flows.parts import adversary
from gacf.methods.flows.seqgan import (
    Autoregressive,
    SequenceCritic,
    log_likelihood,
    lstm,
    seqgan,
    speak,
)
from gacf.methods.flows.vae_gan import WithFeatures, vae_gan

FLOWS = {
    "infogan": infogan,
    "bigan": bigan,
    "adversarial_autoencoder": adversarial_autoencoder,
    "vae_gan": vae_gan,
    "domain_adversarial": domain_adversarial,
    "gail": gail,
    "airl": airl,
    "seqgan": seqgan,
    "lapgan": lapgan,
}

__all__ = [
    "FLOWS",
    "Autoregressive",
    "Labelled",
    "Projection",
    "SequenceCritic",
    "WithFeatures",
    "adversarial_autoencoder",
    "adversary",
    "airl",
    "bigan",
    "coded_noise",
    "conditional_critic",
    "domain_adversarial",
    "down",
    "draw_pyramid",
    "gail",
    "infogan",
    "lapgan",
    "laplacian_pyramid",
    "log_likelihood",
    "lstm",
    "ramp",
    "reconstruct",
    "rewarded",
    "seqgan",
    "side_by_side",
    "speak",
    "up",
    "vae_gan",
]
