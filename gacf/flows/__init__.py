"""Information flow between more than two models (L4). To add one: a file, and a line here."""

from gacf.flows.adversarial_autoencoder import adversarial_autoencoder
from gacf.flows.bigan import bigan
from gacf.flows.conditional import Labelled, Projection, conditional_critic
from gacf.flows.domain_adversarial import domain_adversarial, ramp
from gacf.flows.imitation import airl, gail, rewarded
from gacf.flows.infogan import coded_noise, infogan
from gacf.flows.parts import adversary
from gacf.flows.seqgan import (
    Autoregressive,
    SequenceCritic,
    log_likelihood,
    lstm,
    seqgan,
    speak,
)
from gacf.flows.vae_gan import WithFeatures, vae_gan

FLOWS = {
    "infogan": infogan,
    "bigan": bigan,
    "adversarial_autoencoder": adversarial_autoencoder,
    "vae_gan": vae_gan,
    "domain_adversarial": domain_adversarial,
    "gail": gail,
    "airl": airl,
    "seqgan": seqgan,
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
    "gail",
    "infogan",
    "log_likelihood",
    "lstm",
    "ramp",
    "rewarded",
    "seqgan",
    "speak",
    "vae_gan",
]
