from . import accounting as accounting
from .clipping import (
    AutomaticClipping as AutomaticClipping,
    Clipping as Clipping,
    FlatClipping as FlatClipping,
    PerLayerClipping as PerLayerClipping,
    norm_clipping as norm_clipping,
)
from .discrete import (
    discrete_gaussian as discrete_gaussian,
    discrete_gaussian_distance as discrete_gaussian_distance,
)
from .gradients.sums import per_example_gradients as per_example_gradients
from .mechanisms import MECHANISMS as MECHANISMS
from .mechanisms.adaptive import AdaptiveClipping as AdaptiveClipping
from .mechanisms.mechanism import (
    Mechanism as Mechanism,
    MechanismSettings as MechanismSettings,
    make_plan as make_plan,
)
from .noise import (
    BandedNoise as BandedNoise,
    GaussianNoise as GaussianNoise,
    Noise as Noise,
    add_noise as add_noise,
    gaussian as gaussian,
    noise_key as noise_key,
    square_root_coefficients as square_root_coefficients,
)
from .plan import PrivacyPlan as PrivacyPlan
from .sampling import (
    CyclicPoissonSampling as CyclicPoissonSampling,
    FixedSizeSampling as FixedSizeSampling,
    PoissonSampling as PoissonSampling,
    Sampler as Sampler,
    Selection as Selection,
    ShuffledEpochs as ShuffledEpochs,
    poisson as poisson,
    shuffled as shuffled,
)
from .shares import (
    DiscreteGaussianNoise as DiscreteGaussianNoise,
    SharedPlan as SharedPlan,
    bits_for as bits_for,
    on_grid as on_grid,
    shared as shared,
)
