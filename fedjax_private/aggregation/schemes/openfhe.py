"""The functions that all schemes with keys of OpenFHE share."""

import dataclasses

import numpy as np

from fedjax_private.aggregation.descriptions import describe_sums
from fedjax_private.aggregation.encrypted import EncryptedAggregation
from fedjax_private.aggregation.entry import SumTask
from fedjax_private.aggregation.processes import ProcessAggregation
from fedjax_private.aggregation.selective import SelectiveAggregation
from fedjax_private.aggregation.settings import SumSettings
from fedjax_private.aggregation.types import Aggregation
from fedjax_private.encryption.errors import OpenFHEUnavailable
from fedjax_private.encryption.math import polynomials
from fedjax_private.encryption.openfhe import backend
from fedjax_private.encryption.parameters import Scheme, SumRequest, derive
from fedjax_private.encryption.parties.joint_key import check_quorum
from fedjax_private.trust import Decryptor


def key_holder(settings: SumSettings) -> Decryptor:
    """Returns who decrypts with a single key."""
    if settings.key_holder == "clients":
        return Decryptor.EVERY_CLIENT
    return Decryptor.KEY_AUTHORITY


def share_holders(settings: SumSettings) -> Decryptor:
    """Returns who decrypts with a key in shares."""
    return Decryptor.HOLDERS


def quorum(settings: SumSettings, holders: int) -> int:
    """Returns T, how many holders of key shares can stand in for the others."""
    return settings.recovery_threshold or holders // 2 + 1


def encrypted_fraction(settings: SumSettings) -> float:
    """Returns the share of a vector's entries that is encrypted."""
    return settings.encrypted_fraction


def unavailable() -> str | None:
    """Returns why nothing can be encrypted on this machine; None if it can."""
    try:
        backend.load()
        polynomials.host()
    except OpenFHEUnavailable as error:
        return str(error)
    return None


def request_for(scheme: Scheme, settings: SumSettings, task: SumTask) -> SumRequest:
    """Returns the request that parameters are derived from.

    Raises:
        ValueError: if the settings do not fit the scheme or the task.
    """
    holders = task.trust.uploads if scheme.threshold else 1
    if holders > 1:
        check_quorum(quorum(settings, holders), holders)
    return SumRequest(
        scheme,
        values=task.vector_size,
        uploads=task.most_uploads,
        holders=holders,
        settings=settings,
        residues=task.residues,
    )


def describe(scheme: Scheme, settings: SumSettings, task: SumTask) -> str:
    """Returns sentences for reports. Raises ValueError if no parameters fit."""
    request = request_for(scheme, settings, task)
    text = describe_sums(
        derive(request),
        task.trust,
        quorum(settings, request.holders),
        settings.topology,
    )
    if settings.encrypted_fraction < 1:
        exposed = 1 - settings.encrypted_fraction
        text += f" SELECTIVE: the server reads {exposed:.1%} of every upload's entries."
    return text


def make(scheme: Scheme, settings: SumSettings, task: SumTask) -> Aggregation:
    """Sets encrypted sums up for one training run.

    Raises:
        ValueError: if no parameters fit.
        OpenFHEUnavailable: where OpenFHE cannot be imported.
    """
    if settings.processes:
        if task.encrypted is not None:
            raise ValueError("processes encrypt every entry: encrypted must be None.")
        request = request_for(scheme, settings, task)
        needed = quorum(settings, request.holders)
        return ProcessAggregation(request, task.trust, quorum=needed)
    if task.encrypted is None:
        return _encrypted(scheme, settings, task)
    count = int(np.count_nonzero(task.encrypted))
    part = dataclasses.replace(task, vector_size=count, encrypted=None)
    return SelectiveAggregation(_encrypted(scheme, settings, part), task.encrypted)


def _encrypted(
    scheme: Scheme, settings: SumSettings, task: SumTask
) -> EncryptedAggregation:
    request = request_for(scheme, settings, task)
    return EncryptedAggregation(
        request,
        task.trust,
        quorum=quorum(settings, request.holders),
        topology=settings.topology,
        fan_out=settings.fan_out,
    )
