from . import environment as environment
from .arms import ARMS as ARMS, Arm as Arm
