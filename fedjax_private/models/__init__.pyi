from .cnn import (
    FedAvgCnn as FedAvgCnn,
)
from .cnn import (
    ShallowCnn as ShallowCnn,
)
from .cnn import (
    TutorialCnn as TutorialCnn,
)
from .mlp import Mlp as Mlp
from .model import (
    ACTIVATIONS as ACTIVATIONS,
)
from .model import (
    MODELS as MODELS,
)
from .model import (
    POLYNOMIAL_CNN as POLYNOMIAL_CNN,
)
from .model import (
    SCATTERING_LINEAR as SCATTERING_LINEAR,
)
from .model import (
    Model as Model,
)
from .model import (
    augmented as augmented,
)
from .model import (
    build as build,
)
from .model import (
    for_dataset as for_dataset,
)
from .model import (
    from_flax as from_flax,
)
from .model import (
    parameter_count as parameter_count,
)
from .polynomial import (
    POLYNOMIALS as POLYNOMIALS,
)
from .polynomial import (
    PolynomialCnn as PolynomialCnn,
)
from .polynomial import (
    pre_activations as pre_activations,
)
from .scattering import normalized as normalized
from .scattering import scattered as scattered
