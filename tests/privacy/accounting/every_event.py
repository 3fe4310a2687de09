"""One event of every type."""

from fedjax_private.privacy.accounting import (
    Approximate,
    BandedMatrix,
    Composed,
    DistributedDiscreteGaussian,
    Gaussian,
    Laplace,
    NoPrivacy,
    Poisson,
    Pure,
    RandomizedResponse,
    Repeated,
    WithoutReplacement,
    ZCdp,
)

EVERY_EVENT = [
    NoPrivacy(),
    Gaussian(1.3),
    Laplace(2),
    RandomizedResponse(0.25, 4),
    ZCdp(0.1),
    Pure(1.5),
    Composed((Gaussian(1.0), Pure(0.5))),
    Repeated(Laplace(3.0), 7),
    Poisson(250 / 60000, Gaussian(1.3)),
    WithoutReplacement(1000, 10, Gaussian(1.3)),
    BandedMatrix(2.0, (1.0, 0.5), 10, 3, 0.1),
    DistributedDiscreteGaussian(32, 4.5, 1000, 12.5),
    Approximate(Repeated(Gaussian(1.3), 3), 1e-12),
]
