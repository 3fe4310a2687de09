from .chunks import Ids as Ids
from .chunks import spread as spread
from .evaluation import Evaluation as Evaluation
from .evaluation import evaluator as evaluator
from .loop import (
    Round as Round,
)
from .loop import (
    Run as Run,
)
from .loop import (
    cohorts as cohorts,
)
from .loop import (
    drop_outs as drop_outs,
)
from .loop import (
    root_keys as root_keys,
)
from .loop import (
    simulate as simulate,
)
from .loop import (
    simulate_together as simulate_together,
)
