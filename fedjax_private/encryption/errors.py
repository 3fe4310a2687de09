"""Errors of encrypted sums and of encrypted inference. Imports nothing."""


class ProtocolError(ValueError):
    """A message that a party does not accept."""


class WireError(ProtocolError):
    """A message that is malformed, forged, or not the expected one."""


class RefusedError(ProtocolError):
    """A well-formed message that the protocol forbids."""


class VoidRoundError(RefusedError):
    """A round whose sum cannot be released: too few parties are left."""


class NoAnswerError(RuntimeError):
    """A party that does not answer."""


class OpenFHEUnavailable(RuntimeError):
    """Encryption cannot run here: OpenFHE is missing, or JAX cannot use the host."""


class ForkedProcessError(RuntimeError):
    """OpenFHE was used in a forked child of the process that loaded it."""


class UnexpectedLayoutError(RuntimeError):
    """OpenFHE serialises or encrypts differently from every tested version."""
