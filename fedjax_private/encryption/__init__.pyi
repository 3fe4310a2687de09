from .errors import (
    OpenFHEUnavailable as OpenFHEUnavailable,
    ProtocolError as ProtocolError,
    RefusedError as RefusedError,
    VoidRoundError as VoidRoundError,
    WireError as WireError,
)
from .masking.client import MaskingClient as MaskingClient
from .masking.rosters import MaskedSum as MaskedSum
from .masking.server import MaskingServer as MaskingServer
from .messages.channels import Identity as Identity, Party as Party
from .messages.material import Material as Material
from .messages.wire import (
    AUTHORITY as AUTHORITY,
    FIRST_EDGE as FIRST_EDGE,
    SERVER as SERVER,
    Kind as Kind,
)
from .parameters import (
    Parameters as Parameters,
    Scheme as Scheme,
    SumRequest as SumRequest,
    derive as derive,
)
from .parties.authority import KeyAuthority as KeyAuthority
from .parties.encryptor import Encryptor as Encryptor
from .parties.fusion import Fusion as Fusion
from .parties.holders import KeyHolder as KeyHolder
from .parties.joint_key import make_joint_key as make_joint_key
from .parties.server import AggregationServer as AggregationServer
from .settings import CipherSettings as CipherSettings
from .workers import Workers as Workers
