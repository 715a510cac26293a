"""The methods, built from the parts: actor-critic methods, GANs, and flows of several models."""

from gacf.methods import actor_critic, flows, gan

__all__ = ["actor_critic", "flows", "gan"]
