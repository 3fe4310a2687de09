"""Authenticated key material: those who made a key tell each receiver which one it is.

    authority, or every holder -- voucher --> every client, and the server

A voucher holds the public facts about a key, with the rounds that it serves. The public
key itself is long, and may come from anyone: its hash is in the key id.
"""

from collections.abc import Iterable, Sequence

from fedjax_private.encryption.errors import RefusedError, WireError
from fedjax_private.encryption.messages.channels import Party
from fedjax_private.encryption.messages.material import FACTS_BYTES, Material
from fedjax_private.encryption.messages.wire import Kind, Messages, read, write


def vouch(party: Party, material: Material, receivers: Iterable[int]) -> Messages:
    """Returns vouchers for a key from `party`, which made it alone or with others."""
    facts = material.without_key().to_bytes()
    return {
        receiver: write(party, receiver, Kind.VOUCHER, 0, facts)
        for receiver in receivers
    }


def vouched(party: Party, makers: Sequence[int], messages: Iterable[bytes]) -> Material:
    """Returns the public facts about a key, without the public key.

    Formal guarantees: as long as one of the makers follows the protocol, the facts are
    those of a key that this maker took part in, against whoever carries messages and
    all other makers (under the assumptions of `Channel`). A reader that has taken a key
    never takes one whose first round is lower, so whoever replays old vouchers does not
    bring it back to an old key. A reader that has taken no newer key cannot tell old
    vouchers from new ones: they bind it to the rounds of their key, see `Encryptor`.

    Args:
        party: the reader, for whom the vouchers must be.
        makers: who made the key: the authority, or all holders. The reader must know
            them beforehand, as it knows their identities.
        messages: a voucher from each of them.

    Raises:
        WireError: if a message is no voucher, forged or for somebody else, or if the
            makers name different keys, or one that others made.
        RefusedError: if a message is from somebody else or from a maker a second time,
            or if one of the makers does not vouch, or if the reader has taken a newer
            key; see `Party.take_key`.
    """
    facts: dict[int, bytes] = {}
    for data in messages:
        message = read(party, data, Kind.VOUCHER, payload=FACTS_BYTES)
        if message.sender not in makers or message.sender in facts:
            raise RefusedError(f"an unexpected voucher from {message.sender}.")
        facts[message.sender] = bytes(message.payload)
    missing = set(makers) - facts.keys()
    if missing:
        raise RefusedError(
            f"{sorted(missing)} do not vouch for the key: it is used only if all who "
            "made it do."
        )
    if len(set(facts.values())) != 1:
        raise WireError("the makers of the key vouch for different ones.")
    material = Material.from_bytes(next(iter(facts.values())))
    check_makers(material, makers)
    party.take_key(material.lifetime.first)
    return material


def check_makers(material: Material, makers: Sequence[int]) -> None:
    """Raises WireError unless a key of that material has as many makers."""
    holders = material.parameters.request.holders
    if len(set(makers)) != len(makers) or len(makers) != holders:
        raise WireError(
            f"material of a key that {holders} parties made, not {list(makers)}."
        )
