from . import accounting as accounting
from .clipping import (
    AutomaticClipping as AutomaticClipping,
)
from .clipping import (
    Clipping as Clipping,
)
from .clipping import (
    FlatClipping as FlatClipping,
)
from .clipping import (
    PerLayerClipping as PerLayerClipping,
)
from .clipping import (
    norm_clipping as norm_clipping,
)
from .discrete import (
    discrete_gaussian as discrete_gaussian,
)
from .discrete import (
    discrete_gaussian_distance as discrete_gaussian_distance,
)
from .gradients.sums import per_example_gradients as per_example_gradients
from .mechanisms import MECHANISMS as MECHANISMS
from .mechanisms.adaptive import AdaptiveClipping as AdaptiveClipping
from .mechanisms.mechanism import (
    Mechanism as Mechanism,
)
from .mechanisms.mechanism import (
    MechanismSettings as MechanismSettings,
)
from .mechanisms.mechanism import (
    make_plan as make_plan,
)
from .noise import (
    BandedNoise as BandedNoise,
)
from .noise import (
    GaussianNoise as GaussianNoise,
)
from .noise import (
    Noise as Noise,
)
from .noise import (
    add_noise as add_noise,
)
from .noise import (
    gaussian as gaussian,
)
from .noise import (
    noise_key as noise_key,
)
from .noise import (
    square_root_coefficients as square_root_coefficients,
)
from .plan import PrivacyPlan as PrivacyPlan
from .sampling import (
    CyclicPoissonSampling as CyclicPoissonSampling,
)
from .sampling import (
    FixedSizeSampling as FixedSizeSampling,
)
from .sampling import (
    PoissonSampling as PoissonSampling,
)
from .sampling import (
    Sampler as Sampler,
)
from .sampling import (
    Selection as Selection,
)
from .sampling import (
    ShuffledEpochs as ShuffledEpochs,
)
from .sampling import (
    poisson as poisson,
)
from .sampling import (
    shuffled as shuffled,
)
from .shares import (
    DiscreteGaussianNoise as DiscreteGaussianNoise,
)
from .shares import (
    SharedPlan as SharedPlan,
)
from .shares import (
    bits_for as bits_for,
)
from .shares import (
    on_grid as on_grid,
)
from .shares import (
    shared as shared,
)
