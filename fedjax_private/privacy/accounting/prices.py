"""The prices of the built-in events, one registration each."""

from fedjax_private.privacy.accounting import amplification, closed_forms
from fedjax_private.privacy.accounting.events import (
    BandedMatrix,
    DistributedDiscreteGaussian,
    Gaussian,
    Laplace,
    Neighbors,
    NoPrivacy,
    Poisson,
    Pure,
    RandomizedResponse,
    WithoutReplacement,
    ZCdp,
)
from fedjax_private.privacy.accounting.registry import register

register(NoPrivacy, closed_forms.no_privacy)
register(
    Gaussian,
    closed_forms.gaussian,
    poisson=amplification.poisson_gaussian,
    without_replacement=amplification.without_replacement_gaussian,
)
register(ZCdp, closed_forms.zcdp)
register(
    Laplace,
    closed_forms.laplace,
    poisson=amplification.poisson_laplace,
    pure=closed_forms.laplace_pure,
)
register(Pure, closed_forms.pure, pure=closed_forms.pure_epsilon)
register(
    RandomizedResponse,
    closed_forms.randomized_response,
    pure=closed_forms.randomized_response_pure,
    neighbors=[Neighbors.REPLACE_ONE, Neighbors.ZERO_OUT],
)
register(
    DistributedDiscreteGaussian,
    closed_forms.distributed_discrete_gaussian,
    poisson=amplification.poisson_sum,
)
register(BandedMatrix, closed_forms.banded_matrix)
register(Poisson, amplification.poisson, pure=amplification.poisson_pure)
register(
    WithoutReplacement,
    amplification.without_replacement,
    pure=amplification.without_replacement_pure,
    neighbors=[Neighbors.REPLACE_ONE],
)
