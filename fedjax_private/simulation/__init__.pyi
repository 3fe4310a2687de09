from .chunks import Ids as Ids, spread as spread
from .evaluation import Evaluation as Evaluation, evaluator as evaluator
from .loop import simulate as simulate, simulate_together as simulate_together
from .run import Round as Round, Run as Run
from .schedules import (
    cohorts as cohorts,
    drop_outs as drop_outs,
    root_keys as root_keys,
)
