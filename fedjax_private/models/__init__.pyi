from .activations import ACTIVATIONS as ACTIVATIONS
from .augmentation import augmented as augmented
from .cnn import (
    FedAvgCnn as FedAvgCnn,
)
from .cnn import (
    ShallowCnn as ShallowCnn,
)
from .cnn import (
    TutorialCnn as TutorialCnn,
)
from .entry import (
    Activation as Activation,
)
from .entry import (
    ModelEntry as ModelEntry,
)
from .mlp import Mlp as Mlp
from .model import (
    PENALTIES as PENALTIES,
)
from .model import (
    Model as Model,
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
from .registry import (
    MODELS as MODELS,
)
from .registry import (
    build as build,
)
from .registry import (
    chosen as chosen,
)
from .registry import (
    features as features,
)
from .registry import (
    for_dataset as for_dataset,
)
from .registry import (
    input_dtype as input_dtype,
)
from .scattering import normalized as normalized
from .scattering import scattered as scattered
