"""The prices of the built-in events, one registration each."""

from fedjax_private.privacy.accounting import (
    amplification,
    closed_forms,
    events,
    sampled_gaussian,
)
from fedjax_private.privacy.accounting.events import Neighbors
from fedjax_private.privacy.accounting.registry import register

register(events.NoPrivacy, closed_forms.no_privacy)
register(
    events.Gaussian,
    closed_forms.gaussian,
    poisson=amplification.poisson_gaussian,
    without_replacement=lambda event, q, orders, neighbors: (
        sampled_gaussian.without_replacement(q, event.noise_multiplier, orders)
    ),
)
register(events.ZCdp, closed_forms.zcdp)
register(
    events.Laplace,
    closed_forms.laplace,
    poisson=amplification.poisson_laplace,
    pure=closed_forms.laplace_pure,
)
register(events.Pure, closed_forms.pure, pure=lambda event, neighbors: event.epsilon)
register(
    events.RandomizedResponse,
    closed_forms.randomized_response,
    pure=closed_forms.randomized_response_pure,
    neighbors=[Neighbors.REPLACE_ONE, Neighbors.ZERO_OUT],
)
register(
    events.DistributedDiscreteGaussian,
    closed_forms.distributed_discrete_gaussian,
    poisson=amplification.poisson_sum,
)
register(events.BandedMatrix, closed_forms.banded_matrix)
register(events.Poisson, amplification.poisson, pure=amplification.poisson_pure)
register(
    events.WithoutReplacement,
    amplification.without_replacement,
    pure=amplification.without_replacement_pure,
    neighbors=[Neighbors.REPLACE_ONE],
)
