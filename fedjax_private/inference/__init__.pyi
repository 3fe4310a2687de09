from .compiling.circuit import Circuit as Circuit
from .compiling.compiler import compile_model as compile_model
from .compiling.primitives import UnsupportedLayerError as UnsupportedLayerError
from .evaluating.evaluator import Evaluator as Evaluator
from .evaluating.querier import Querier as Querier
from .planning.packings import PlanError as PlanError
from .planning.plan import Plan as Plan, plan as plan
from .planning.public import PublicPlan as PublicPlan
