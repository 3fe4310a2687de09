from .activations import ACTIVATIONS as ACTIVATIONS
from .augmentation import augmented as augmented
from .cnn import (
    FedAvgCnn as FedAvgCnn,
    ShallowCnn as ShallowCnn,
    TutorialCnn as TutorialCnn,
)
from .entry import (
    Activation as Activation,
    ModelEntry as ModelEntry,
)
from .mlp import Mlp as Mlp
from .model import (
    Model as Model,
    from_flax as from_flax,
    parameter_count as parameter_count,
)
from .network import PENALTIES as PENALTIES
from .polynomial import (
    POLYNOMIALS as POLYNOMIALS,
    PolynomialCnn as PolynomialCnn,
)
from .registry import (
    MODELS as MODELS,
    build as build,
    chosen as chosen,
    features as features,
    for_dataset as for_dataset,
    input_dtype as input_dtype,
)
from .scattering import normalized as normalized, scattered as scattered
