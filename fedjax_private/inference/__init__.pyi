from .compiling.circuit import (
    Affine as Affine,
)
from .compiling.circuit import (
    Circuit as Circuit,
)
from .compiling.circuit import (
    Patches as Patches,
)
from .compiling.circuit import (
    Polynomial as Polynomial,
)
from .compiling.compiler import (
    compile_model as compile_model,
)
from .compiling.primitives import UnsupportedLayerError as UnsupportedLayerError
from .evaluating.evaluator import Evaluator as Evaluator
from .evaluating.querier import Querier as Querier
from .planning.packings import PlanError as PlanError
from .planning.plan import Plan as Plan
from .planning.plan import plan as plan
from .planning.public import PublicPlan as PublicPlan
