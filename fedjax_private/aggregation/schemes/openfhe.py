"""Makes the entries of all encrypted schemes, whose keys OpenFHE makes."""

import dataclasses
import functools
import operator
from typing import Any

import numpy as np

from fedjax_private.aggregation.encrypted import EncryptedAggregation
from fedjax_private.aggregation.entry import SchemeEntry, SumTask
from fedjax_private.aggregation.processes import ProcessAggregation
from fedjax_private.aggregation.reference import OpenFHEAggregation
from fedjax_private.aggregation.selective import SelectiveAggregation
from fedjax_private.aggregation.settings import SumSettings
from fedjax_private.aggregation.sums import EncryptedSums
from fedjax_private.aggregation.types import Aggregation
from fedjax_private.encryption.errors import OpenFHEUnavailable
from fedjax_private.encryption.math import polynomials
from fedjax_private.encryption.openfhe import backend
from fedjax_private.encryption.parameters import Scheme, SumRequest
from fedjax_private.encryption.parties.attendance import DropOut
from fedjax_private.encryption.parties.joint_key import check_quorum
from fedjax_private.trust import Decryptor


def encrypted_entry(
    scheme: Scheme, summary: str, ignores: tuple[str, ...]
) -> SchemeEntry:
    """Returns the entry of a scheme; `summary` and `ignores` as in `SchemeEntry`."""
    shared: dict[str, Any] = {"quorum": _quorum} if scheme.threshold else {}
    return SchemeEntry(
        name=scheme.value,
        summary=summary,
        settings=SumSettings,
        decryptor=functools.partial(_decryptor, scheme),
        describe=functools.partial(_describe, scheme),
        make=functools.partial(_make, scheme),
        ignores=ignores,
        exact=scheme.exact,
        protects=operator.attrgetter("protect"),
        encrypted_fraction=operator.attrgetter("encrypted_fraction"),
        unavailable=_unavailable,
        **shared,
    )


def request_for(scheme: Scheme, settings: SumSettings, task: SumTask) -> SumRequest:
    """Returns the request that parameters are derived from.

    Raises:
        ValueError: if the settings do not fit the scheme or the task.
    """
    holders = task.trust.uploads if scheme.threshold else 1
    return SumRequest(
        scheme,
        values=task.vector_size,
        uploads=task.most_uploads,
        holders=holders,
        settings=settings,
        residues=task.residues,
    )


def _decryptor(scheme: Scheme, settings: SumSettings) -> Decryptor:
    if scheme.threshold:
        return Decryptor.HOLDERS
    by_clients = settings.key_holder == "clients"
    return Decryptor.EVERY_CLIENT if by_clients else Decryptor.KEY_AUTHORITY


def _threshold(settings: SumSettings, holders: int) -> int:
    """T, how many holders can stand in for all."""
    if settings.by_openfhe:  # which has nobody stand in for others
        return holders
    default = 2 * holders // 3 if settings.verified else holders // 2
    threshold = settings.recovery_threshold or default + 1
    if holders > 1:
        check_quorum(threshold, holders)
    return threshold


def _quorum(settings: SumSettings, holders: int) -> int:
    """How many holders decrypt more than one sum a round together with the server.

    One that follows the protocol needs T of them. One that departs from it can ask some
    of the honest holders for one sum and the others for another, and needs 2T - n that
    stand in on both sides, as in Bonawitz et al. (CCS 2017).
    """
    threshold = _threshold(settings, holders)
    return max(2 * threshold - holders, 1) if settings.verified else threshold


def _unavailable() -> str | None:
    try:
        backend.load()
        polynomials.host()
    except OpenFHEUnavailable as error:
        return str(error)
    return None


def _describe(scheme: Scheme, settings: SumSettings, task: SumTask) -> str:
    request = request_for(scheme, settings, task)
    quorum = _threshold(settings, request.holders)
    if settings.by_openfhe:
        return OpenFHEAggregation(request, task.trust, settings.key_rounds).description
    sums = EncryptedSums(
        request,
        task.trust,
        quorum,
        settings.topology,
        settings.key_rounds,
        settings.verified,
        DropOut(settings.holder_drop_out, task.seed),
    )
    text = sums.description
    if settings.encrypted_fraction < 1:
        exposed = 1 - settings.encrypted_fraction
        text += f" SELECTIVE: the server reads {exposed:.1%} of every upload's entries."
    return text


def _make(scheme: Scheme, settings: SumSettings, task: SumTask) -> Aggregation:
    mask = task.encrypted
    if mask is not None:
        count = int(np.count_nonzero(mask))
        task = dataclasses.replace(task, vector_size=count, encrypted=None)
    request = request_for(scheme, settings, task)
    quorum = _threshold(settings, request.holders)
    if settings.by_openfhe:
        if mask is not None:
            raise ValueError(
                "arithmetic=openfhe encrypts every entry: encrypted must be None."
            )
        return OpenFHEAggregation(request, task.trust, settings.key_rounds)
    if settings.processes:
        if mask is not None:
            raise ValueError("processes encrypt every entry: encrypted must be None.")
        return ProcessAggregation(
            request,
            task.trust,
            quorum=quorum,
            key_rounds=settings.key_rounds,
            verified=settings.verified,
            drop_out=DropOut(settings.holder_drop_out, task.seed),
        )
    sums = EncryptedAggregation(
        request,
        task.trust,
        quorum=quorum,
        topology=settings.topology,
        fan_out=settings.fan_out,
        key_rounds=settings.key_rounds,
        verified=settings.verified,
        drop_out=DropOut(settings.holder_drop_out, task.seed),
    )
    return sums if mask is None else SelectiveAggregation(sums, mask)
