from .messages.channels import Identity as Identity
from .messages.channels import Party as Party
from .messages.material import Material as Material
from .messages.wire import (
    AUTHORITY as AUTHORITY,
)
from .messages.wire import (
    EDGES as EDGES,
)
from .messages.wire import (
    SERVER as SERVER,
)
from .messages.wire import (
    Kind as Kind,
)
from .messages.wire import (
    ProtocolError as ProtocolError,
)
from .messages.wire import (
    RefusedError as RefusedError,
)
from .messages.wire import (
    WireError as WireError,
)
from .openfhe.backend import OpenFHEUnavailable as OpenFHEUnavailable
from .parameters import (
    Parameters as Parameters,
)
from .parameters import (
    Scheme as Scheme,
)
from .parameters import (
    SumRequest as SumRequest,
)
from .parameters import (
    derive as derive,
)
from .parties.roles import Encryptor as Encryptor
from .parties.roles import KeyAuthority as KeyAuthority
from .parties.server import AggregationServer as AggregationServer
from .parties.server import Fusion as Fusion
from .parties.threshold import KeyHolder as KeyHolder
from .parties.threshold import make_joint_key as make_joint_key
from .workers import Workers as Workers
