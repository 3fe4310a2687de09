"""Verified dealing: a holder's shares are those of the key behind its contribution.

Dealer i has a ternary key s and an error e, and contributed b = e - a s. It deals
Shamir shares of s, and of R masks m_r, which are wide Gaussian integers. Once everybody
has its shares, holders draw vectors rho_r and tau_r with entries -1, 0 and 1 together.
Receiver j answers with R numbers modulo q, made of its shares s_j and m_rj,

    z_rj = <rho_r, s_j> + <tau_r, a s_j> + m_rj.

Shares are linear, so these are shares of <rho_r, s> + <tau_r, a s> + m_r. Everybody
checks that the answers of all receivers lie on a polynomial of degree below T, and that
its value at 0, plus <tau_r, b>, is small, because it is <rho_r, s> + <tau_r, e> + m_r.

Sources: approximate proofs of small norms by such random projections, Lyubashevsky,
Nguyen and Seiler ("Practical Lattice-Based Zero-Knowledge Proofs for Integer
Relations", CCS 2020); for keys in shares, Gentry, Halevi and Lyubashevsky ("Practical
Non-interactive Publicly Verifiable Secret Sharing with Thousands of Parties", EUROCRYPT
2022). All of this is in Z_q; inner products are of coefficients.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjax_private.encryption.errors import RefusedError
from fedjax_private.encryption.math import polynomials, shamir
from fedjax_private.encryption.math.entropy import wide_gaussian
from fedjax_private.encryption.math.expansion import below, signs
from fedjax_private.encryption.math.modular import lazy_product, quotients, reduced
from fedjax_private.encryption.math.polynomials import Factor
from fedjax_private.encryption.math.rings import Residues, Ring
from fedjax_private.encryption.noise import NOISE_STD

# Wrong dealing of any holder passes with probability 2^-40.
_SOUNDNESS_BITS = 40

# Deviations beyond which no mask lies: one of 2^15 does with probability 2^-60.
_TAIL = 10

# Terms of an inner product that are summed in one go.
_PIECE = 64

# rho and tau of all repetitions, (2, R, N), int8.
Challenge = npt.NDArray[np.int8]


@dataclasses.dataclass(frozen=True)
class Dealing:
    """How the holders of one joint key deal shares, and check those of each other.

    Formal guarantees. *Soundness*, against dealers and receivers that depart from the
    protocol, as long as T holders follow it: if no check fails, then with probability
    1 - 2^-40 the shares of all those who follow it are shares of one s', whose
    ||(s', b + a s')|| is at most `most_norm`: 9 times the largest number that passes.
    Holders who stand in for the dealer then spoil a sum of uploads of clients that
    follow the protocol by an error of deviation `error_std` at most. Proof: rho and tau
    are drawn after the shares are fixed. If those of T + 1 honest holders do not lie on
    a polynomial, some combination of them is not zero, and hits any value with
    probability 1/2 at most. If they do, no answer of the others changes the value at 0
    unnoticed. For a vector u with an entry larger than two bounds, <rho, u> is within
    any interval of that length with probability 1/2 at most; for one with smaller
    entries and a norm of 9 bounds, too, by the theorem of Berry and Esseen with the
    constant 0.56 (Shevtsova, 2010). There are R repetitions.

    *Secrecy* of a dealer that follows the protocol, against fewer than T holders
    together with everybody else: the answers reveal <rho_r, s> + <tau_r, e> + m_r and
    nothing else, because the masks' polynomials are uniform otherwise, as far as the
    key stream of ChaCha20 is from which they are drawn (see `shamir`). All R are within
    a statistical distance of 2^-(s+1)/2 of numbers that do not depend on the key (see
    `entropy.wide_gaussian`), except with probability 2^-40 over the challenge, in
    addition to what decryptions reveal.

    Not guaranteed: that s' is s, if the dealer departs from the protocol, nor that s
    and e are as small as the protocol's: the noise of decryptions is sized for those,
    and `KeyHolder` says what larger ones reveal. The dealer can also add the same error
    to every sum, without shares. Receivers that answer falsely end the generation, too:
    then the sentence names an honest dealer and says that it is the dealer or
    receivers. With fewer than T holders that follow the protocol, an honest dealer may
    be blamed alone.

    Attributes:
        ring: R_q.
        quorum: T.
        holders: the numbers of all holders, in order; their points are 1, 2, ...
        statistical_bits: s.
    """

    ring: Ring
    quorum: int
    holders: tuple[int, ...]
    statistical_bits: int

    @property
    def repetitions(self) -> int:
        """R: a multiple of eight."""
        return -(-(_SOUNDNESS_BITS + (len(self.holders) - 1).bit_length()) // 8) * 8

    @property
    def scalars(self) -> Ring:
        """The ring whose polynomials hold R numbers modulo q."""
        return Ring(self.repetitions, self.ring.moduli)

    @property
    def mask_std(self) -> float:
        """Standard deviation of masks.

        An inner product has the expected square |(s, e)|^2 / 2. Their sum over R
        repetitions exceeds its mean four times with probability 2^-40, and |(s, e)|^2
        its own 1.4 times far less often. The statistical distance is the root of that
        sum over twice the masks' deviation: see `entropy.wide_gaussian`.
        """
        norm = 1.4 * self.ring.dimension * (2 / 3 + NOISE_STD**2)
        return math.sqrt(self.repetitions * norm) * 2.0 ** (self.statistical_bits / 2)

    @property
    def bound(self) -> float:
        """The largest absolute value that passes."""
        return _TAIL * self.mask_std

    @property
    def most_norm(self) -> float:
        """The largest Euclidean norm of (s', e') whose shares pass."""
        entries = 2 * self.ring.dimension
        if 4 * entries * self.bound < math.prod(self.ring.moduli):
            return 9 * self.bound
        # An inner product may wrap around; each entry is at most two bounds still.
        return 2 * math.sqrt(entries) * self.bound

    def error_std(self, uploads: int) -> float:
        """Deviation of what shares that pass can add to a coefficient of a sum.

        A sum's second polynomial is `a v + e1`, with the sums of ternary v and Gaussian
        e1 of the uploads. Standing in with s' instead of s adds `e' v + s' e1`.
        """
        variance = uploads * max(2 / 3, NOISE_STD**2)
        return self.most_norm * math.sqrt(variance)

    @property
    def answer_bytes(self) -> int:
        """Bytes of a receiver's answers on all dealers."""
        return len(self.holders) * self.scalars.polynomial_bytes

    @property
    def dealt(self) -> Ring:
        """The ring whose polynomials hold a share of a key, and those of masks."""
        return Ring(self.ring.dimension + self.repetitions, self.ring.moduli)

    def deal(self, secret: Residues) -> list[bytes]:
        """Returns what each holder gets: shares of a key (L, N) and of fresh masks."""
        high, low, shift = wide_gaussian((1, self.repetitions), self.mask_std)
        masks = polynomials.residues(high, low, shift, self.scalars)[0]
        both = np.concatenate([secret, masks], axis=1)
        shares = shamir.share(both, self.dealt, self.quorum, len(self.holders))
        packed, size = self.dealt.pack(shares), self.dealt.polynomial_bytes
        return [packed[at : at + size] for at in range(0, len(packed), size)]

    def read(self, data: bytes) -> tuple[Residues, Residues]:
        """Returns a share of a key (L, N), and those of the masks (L, R).

        Raises:
            WireError: if a number is not below its prime.
        """
        share = self.dealt.unpack(data)[0]
        key, masks = np.split(share, [self.ring.dimension], axis=1)
        return np.ascontiguousarray(key), masks

    def challenge(self, seed: bytes) -> Challenge:
        """Returns rho and tau, expanded from a seed of 32 bytes."""
        return signs(seed, (2, self.repetitions, self.ring.dimension))

    def answers(
        self,
        shares: Residues,
        masks: Residues,
        common: Residues,
        challenge: Challenge,
    ) -> bytes:
        """Returns a receiver's answers on all dealers, in the order of the holders.

        Args:
            shares: of every dealer's key, (n, L, N).
            masks: shares of every dealer's masks, (n, L, R).
            common: a (L, N).
            challenge: as `challenge` returns it.
        """
        products = polynomials.multiply(shares, Factor.of(common, self.ring), self.ring)
        rho, tau = challenge
        numbers = self._inner(shares, rho) + self._inner(products, tau)
        numbers = (numbers + masks.astype(object)) % self._column
        return self.scalars.pack(numbers.astype(np.uint64))

    def check(
        self,
        me: int,
        answers: Sequence[Residues],
        contributions: Sequence[Residues],
        challenge: Challenge,
    ) -> None:
        """Checks all dealers' shares by the answers of all receivers.

        Args:
            me: the holder that checks.
            answers: (n, L, R) of every holder, in their order.
            contributions: b (L, N) of every holder, in their order.
            challenge: as `challenge` returns it.

        Raises:
            RefusedError: if a check fails, with the names of the holders one of whom
                departed from the protocol: of the dealer, unless receivers did not
                answer truthfully.
        """
        received = np.stack(answers)  # (receiver, dealer, L, R)
        together = received.swapaxes(1, 2).reshape(len(answers), self.ring.limbs, -1)
        fit = self._on_polynomial(together)
        known = self._inner(np.stack(contributions), challenge[1])
        values = self._at_zero(together) + known.swapaxes(0, 1).reshape(
            self.ring.limbs, -1
        )
        largest = np.abs(self._centred(values)).reshape(len(self.holders), -1).max(1)
        for index, dealer in enumerate(self.holders):
            if not fit and not self._on_polynomial(received[:, index]):
                raise RefusedError(self._blame(me, dealer, received[:, index]))
            if largest[index] > self.bound:
                raise RefusedError(self._blame(me, dealer, None))

    def _blame(self, me: int, dealer: int, points: Any) -> str:
        """Returns the sentence about a dealer whose shares fail.

        Args:
            me: the holder that speaks, which itself follows the protocol.
            dealer: the holder whose shares fail.
            points: the answers on them (n, L, R); None if they are of one polynomial.
        """
        liars, sure = "some who hold them", False
        if points is None:
            fault = "are not of the key behind its contribution"
            # Fewer than n - T + 1 false answers are on no polynomial with the true.
            sure = len(self.holders) > self.quorum
        else:
            fault = "do not fit together"
            alone = [
                holder
                for index, holder in enumerate(self.holders)
                if self._on_polynomial(points, without=index)
            ]
            if len(alone) == 1:
                # So many false answers are on a polynomial with T - 1 true ones.
                liars = f"{len(self.holders) - self.quorum} others who hold them"
                if alone[0] not in (me, dealer):
                    liars = f"holder {alone[0]}, or {liars}"
        who = f"{liars} did not answer truthfully"
        if me != dealer:
            who = "it dealt wrong ones" if sure else f"it dealt wrong ones, or {who}"
        return f"the shares that holder {dealer} dealt {fault}: {who}; no key is made."

    def _on_polynomial(self, points: Residues, without: int | None = None) -> bool:
        """Returns whether answers (n, L, K), but one, are of degree below T.

        By a random combination of the K. If one of them is not, neither is that, except
        with probability 1/q. False if there are too few to tell.
        """
        kept = [index for index in range(len(points)) if index != without]
        if without is not None and len(kept) <= self.quorum:
            return False
        first, others = kept[: self.quorum], kept[self.quorum :]
        for limb, q in enumerate(self.ring.moduli):
            weights = below(q, points.shape[-1], os.urandom)
            values = _combined(points[:, limb], weights, q)
            for index in others:
                # Seen from that point, which is then at 0.
                at = tuple(i - index for i in first)
                if (values[first] @ _weights(at, q) - values[index]) % q:
                    return False
        return True

    def _at_zero(self, points: Residues) -> Any:
        """Returns the values (L, K) at 0 of polynomials through answers (n, L, K)."""
        first = tuple(range(1, self.quorum + 1))
        return np.stack(
            [
                _combined(points[: self.quorum, limb].T, _weights(first, q), q)
                for limb, q in enumerate(self.ring.moduli)
            ]
        )

    def _inner(self, values: Residues, vectors: npt.NDArray[np.int8]) -> Any:
        """Returns inner products (M, L, R), not reduced, of coefficients and vectors.

        Args:
            values: of polynomials, (M, L, N).
            vectors: (R, N).
        """
        coefficients = polynomials.interpolate(values, self.ring)
        # Halves of 32 bits: sums of them over a polynomial are exact in a float64. In
        # pieces, for which BLAS starts no threads: on busy cores they wait for one
        # another, and that takes three times as long as the products.
        halves = coefficients.reshape(-1, self.ring.dimension).view("<u4")
        columns = np.ascontiguousarray(vectors.T).astype(np.float64)
        columns = columns.reshape(-1, _PIECE, len(vectors))
        low, high = (
            (pieces @ columns).sum(axis=0).astype(np.int64)
            for pieces in (
                halves[:, half::2]
                .astype(np.float64)
                .reshape(len(halves), -1, _PIECE)
                .transpose(1, 0, 2)
                for half in range(2)
            )
        )
        products = high.astype(object) * 2**32 + low.astype(object)
        return products.reshape(*values.shape[:2], -1)

    def _centred(self, values: Any) -> Any:
        """Returns the integers (K,), closest to 0, that are `values` (L, K) modulo q_l.

        Args:
            values: whole numbers, which need not be reduced.
        """
        q = math.prod(self.ring.moduli)
        factors = [
            q // prime * pow(q // prime, -1, prime) for prime in self.ring.moduli
        ]
        whole = (np.array(factors, object) @ values + q // 2) % q
        return whole - q // 2

    @property
    def _column(self) -> Any:
        return self.ring.column.astype(object)


def _combined(values: Residues, weights: Any, modulus: int) -> Any:
    """Returns inner products (M,) of rows (M, K) and weights (K,), reduced, as objects.

    Args:
        values: below the modulus.
        weights: below the modulus, uint64 or whole numbers.
        modulus: below 2^62.
    """
    q = np.uint64(modulus)
    weights = weights.astype(np.uint64)
    products = lazy_product(values, weights, quotients(weights, modulus), q)
    products = reduced(products, q, np.minimum)
    # Sums of halves fit a word.
    high, low = (
        half.sum(axis=1).astype(object)
        for half in (products >> np.uint64(32), products & np.uint64(2**32 - 1))
    )
    return (high * 2**32 + low) % modulus


@functools.lru_cache(maxsize=4096)
def _weights(points: tuple[int, ...], modulus: int) -> Any:
    """`lagrange_at_zero`, as an array of whole numbers."""
    return np.array(shamir.lagrange_at_zero(points, modulus), object)
