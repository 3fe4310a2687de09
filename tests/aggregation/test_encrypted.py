import gc
import itertools
import os
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_private.aggregation.sums import grid_of
from fedjax_private.encryption import (
    Encryptor,
    OpenFHEUnavailable,
    RefusedError,
    VoidRoundError,
)
from tests.aggregation.sums import ENCRYPTED, decoded, encoded, made, released


def test_missing_openfhe_ends_with_the_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "openfhe", None)
    with pytest.raises(OpenFHEUnavailable, match="plain arms run without it"):
        made("ckks", 2)


def recovered(aggregation, slots, number):
    """How many holders others stood in for in a round; None if the round is void."""
    try:
        _, report = released(aggregation, slots, round_number=number)
    except VoidRoundError:
        return None
    return report.recovered_holders


@pytest.mark.needs_openfhe
class TestSums:
    # Around the edges of ciphertexts: 2048 slots of two values, and of three lanes.
    @pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 12_288, 12_289, 26_010])
    @pytest.mark.parametrize("name", ["ckks", "exact"])
    def test_mean_equals_the_plain_one(self, name, size):
        rows = 0.1 * np.random.default_rng(size).normal(size=(4, size))
        aggregation = made(name, 4, size)
        slots = encoded(aggregation, rows)
        session = aggregation.open(0)
        ids = np.array([11, 3, 0, 8])
        session.add(ids[:3], jnp.asarray(slots[:3]))
        session.add(ids[3:], slots[3:])
        total, report = session.release()
        error = np.abs(decoded(aggregation, total) - rows.sum(axis=0)).max()
        if name == "exact":
            assert report.max_error == 0.0
            assert error < 4 * grid_of(aggregation.request).step
        else:
            assert report.max_error < 6 * aggregation.parameters.error_std(4)
            assert error < 6 * aggregation.parameters.error_std(4) + 1e-6

    @pytest.mark.parametrize("name", ENCRYPTED)
    def test_every_scheme_over_several_rounds(self, name):
        aggregation = made(name, 3, 5000)
        for round_number in (1, 2, 7):
            rows = np.random.default_rng(round_number).uniform(-0.3, 0.3, (3, 5000))
            slots = encoded(aggregation, rows, round_number)
            total, report = released(aggregation, slots, round_number=round_number)
            assert report.max_error < 1e-3
            np.testing.assert_allclose(
                decoded(aggregation, total), rows.sum(axis=0), atol=1e-3
            )

    @pytest.mark.parametrize("name", ["exact", "threshold_exact"])
    def test_makers_of_a_key_vouch_for_it_to_each_client_once(self, name, monkeypatch):
        # And to the server, which gets no public key.
        read = []

        def admit(encryptor, party, messages):
            read.append((party.number, len(messages := list(messages))))
            honest(encryptor, party, messages)

        honest = Encryptor.admit
        monkeypatch.setattr(Encryptor, "admit", admit)
        aggregation = made(name, 3, settings={"key_rounds": 2})
        assert not aggregation._key.server.material.public_key
        makers = aggregation.request.holders
        slots = encoded(aggregation, np.zeros((3, 10)))
        for number, ids in enumerate(([0, 1, 2], [1, 2, 7], [1, 2, 7])):
            released(aggregation, slots, np.array(ids), number)
        admitted = [0, 1, 2, 7, 1, 2, 7]  # the third round has a new key
        assert read == [(client, makers) for client in admitted]

    def test_partial_sums_down_to_the_fewest(self):
        rows = np.full((2, 10), 0.25)
        aggregation = made("exact", 2, most_uploads=5)
        total, report = released(aggregation, encoded(aggregation, rows))
        assert report.uploads == 2
        np.testing.assert_allclose(decoded(aggregation, total), 0.5, atol=1e-3)

    def test_report(self):
        aggregation = made("ckks", 2, 5000)
        rows = np.ones((2, 5000), np.float32)
        _, report = released(aggregation, rows)
        assert report.uploads == 2
        ciphertexts = 2 * 2 * aggregation.parameters.polynomial_bytes
        assert 0 < report.upload_bytes_per_client - ciphertexts < 150 + 122
        assert report.download_bytes_per_client == 20_000
        assert report.seconds_encrypt > 0
        assert report.seconds_add > 0
        assert report.seconds_decrypt > 0
        assert report.seconds_keys > 0
        assert released(aggregation, rows, round_number=1)[1].seconds_keys == 0
        # 58 bytes of header, a digest and a tag.
        assert report.link_bytes["client to authority"] == 58 + 32 + 32
        assert list(report.link_bytes) == [
            "client to authority",
            "client to server",
            "server to authority",
            "authority to server",
        ]

    @pytest.mark.parametrize("name", ENCRYPTED)
    def test_too_few_uploads_are_never_decrypted(self, name):
        aggregation = made(name)
        session = aggregation.open(0)
        session.add(np.arange(2), encoded(aggregation, np.zeros((2, 10))))
        with pytest.raises(RefusedError, match="at least 3"):
            session.release()
        with pytest.raises(RefusedError, match="no upload"):
            aggregation.open(1).release()

    @pytest.mark.parametrize("name", ENCRYPTED)
    @pytest.mark.parametrize("topology", ["star", "tree", "ring"])
    def test_verified_sums_cost_bytes_and_change_no_sum(self, name, topology):
        rows = np.random.default_rng(3).uniform(-0.3, 0.3, (3, 3000))
        totals, reports = {}, {}
        for server in ("malicious", "semi_honest"):
            settings = {"server": server, "topology": topology}
            aggregation = made(name, 3, 3000, settings)
            slots = encoded(aggregation, rows)
            totals[server], reports[server] = released(aggregation, slots)
        within = {"rtol": 0, "atol": 0 if "exact" in name else 1e-3}
        np.testing.assert_allclose(totals["malicious"], totals["semi_honest"], **within)
        threshold = "threshold" in name
        links = {server: set(report.link_bytes) for server, report in reports.items()}
        declaring = "client to holder" if threshold else "client to authority"
        assert links["malicious"] - links["semi_honest"] == {declaring}
        asking = "server to holder" if threshold else "server to authority"
        parameters = aggregation.parameters
        half = parameters.rows * parameters.polynomial_bytes
        # Each c1 in place of their sum.
        more = {s: report.link_bytes[asking] for s, report in reports.items()}
        assert more["malicious"] - more["semi_honest"] == 2 * half
        if topology == "star":
            declared = 122 * (3 if threshold else 1)
            sent = {s: r.upload_bytes_per_client for s, r in reports.items()}
            assert sent["malicious"] - sent["semi_honest"] == declared

    @pytest.mark.parametrize("name", ["exact", "threshold_exact"])
    def test_a_round_is_released_once(self, name):
        aggregation = made(name, 2)
        slots = encoded(aggregation, np.zeros((2, 10)))
        session = aggregation.open(0)
        session.add(np.arange(2), slots)
        session.release()
        with pytest.raises(RuntimeError, match="released already"):
            session.release()
        with pytest.raises(RefusedError, match=r"0 has been opened.*make another"):
            released(aggregation, slots)

    @pytest.mark.parametrize("name", ENCRYPTED)
    @pytest.mark.parametrize("server", ["malicious", "semi_honest"])
    def test_no_round_has_a_second_sum_after_a_rotation(self, name, server):
        settings = {"server": server}
        if name != "exact":
            settings["query_budget"] = 1
        aggregation = made(name, 2, most_uploads=3, settings=settings)
        slots = encoded(aggregation, np.zeros((3, 10)))
        released(aggregation, slots, round_number=7)
        for ids in (np.arange(2), np.arange(3, 6)):
            # Whoever opens rounds may forget; the parties do not.
            aggregation._opened.clear()
            aggregation._key = aggregation._make_key()
            match = "has decrypted" if ids[0] else "has (declared|uploaded)"
            with pytest.raises(RefusedError, match=f"{match} in round 7 already"):
                released(aggregation, slots[ids % 3], ids, round_number=7)
        aggregation._opened.clear()
        released(aggregation, slots, round_number=8)

    def test_a_discarded_round_does_not_release_a_later_one(self):
        aggregation = made("exact", 2)
        slots = encoded(aggregation, np.full((2, 10), 0.25))
        old, new = aggregation.open(0), aggregation.open(1)
        new.add(np.arange(2), slots)
        with pytest.raises(RuntimeError, match="round 0 was discarded"):
            old.release()
        total, _ = new.release()
        np.testing.assert_allclose(decoded(aggregation, total), 0.5, atol=1e-3)

    def test_keys_are_rotated_when_the_budget_is_used_up(self):
        for name in ("ckks", "threshold_ckks", "threshold_exact"):
            aggregation = made(name, 2, settings={"query_budget": 2})
            slots = encoded(aggregation, np.zeros((2, 10)))
            for round_number in range(5):
                _, report = released(aggregation, slots, round_number=round_number)
                assert (report.seconds_keys > 0) is (round_number % 2 == 0)

    @pytest.mark.parametrize("name", ENCRYPTED)
    @pytest.mark.parametrize("rounds", [1, 2])
    def test_keys_are_rotated_after_so_many_rounds(self, name, rounds):
        aggregation = made(name, 2, settings={"key_rounds": rounds})
        slots = encoded(aggregation, np.zeros((2, 10)))
        keys = []
        for number in range(4):
            _, report = released(aggregation, slots, round_number=number)
            assert (report.seconds_keys > 0) is (number % rounds == 0)
            keys.append(aggregation._key.server.material.key_id)
        assert len(set(keys)) == 4 // rounds
        every = "every round" if rounds == 1 else "every 2 rounds"
        assert f"A new key is made {every}." in aggregation.description

    def test_a_round_without_a_release_counts_for_its_key(self):
        aggregation = made("exact", 2, settings={"key_rounds": 2})
        first = aggregation._key.server.material.key_id
        for number in range(3):
            aggregation.open(number)
            now = aggregation._key.server.material.key_id
            assert (now == first) is (number < 2)

    def test_rounds_that_are_not_opened_count_for_the_key(self):
        aggregation = made("exact", 2, settings={"key_rounds": 3})
        slots = encoded(aggregation, np.zeros((2, 10)))
        for number, new in ((1, True), (2, False), (3, True), (5, False), (9, True)):
            _, report = released(aggregation, slots, round_number=number)
            assert (report.seconds_keys > 0) is new
        with pytest.raises(RefusedError, match="round 8 is before round 9"):
            aggregation.open(8)
        assert released(aggregation, slots, round_number=11)[1].seconds_keys == 0

    def test_the_smaller_of_rounds_and_budget_counts(self):
        settings = {"query_budget": 2, "key_rounds": 3}
        aggregation = made("ckks", 2, settings=settings)
        assert "A new key is made after 2 sums." in aggregation.description
        slots = encoded(aggregation, np.zeros((2, 10)))
        for number in range(6):
            _, report = released(aggregation, slots, round_number=number)
            assert (report.seconds_keys > 0) is (number % 2 == 0)

    @pytest.mark.parametrize("name", ["threshold_ckks", "threshold_exact"])
    def test_sums_are_the_same_where_holders_vanish(self, name):
        settings = {"holder_drop_out": 0.25, "recovery_threshold": 3}
        aggregation = made(name, 5, 5000, settings=settings, seed=3)
        rows = np.random.default_rng(0).uniform(-0.1, 0.1, (5, 5000))
        seen = []
        for number in range(6):
            slots = encoded(aggregation, rows, number)
            answers = aggregation.drop_out.answers(number, range(5))
            missing = [holder for holder, count in answers.items() if count == 0]
            # The first of the present stand in, again without those that vanish then.
            left = [holder for holder in range(5) if holder not in missing]
            sets = 0
            while missing and len(left) >= 3:
                asked, sets = left[:3], sets + 1
                left = [h for h in left if h not in asked or answers[h] > sets]
                if set(asked) <= set(left):
                    break
            session = aggregation.open(number)
            session.add(np.arange(5), slots)
            if len(left) < 3:
                with pytest.raises(VoidRoundError, match=f"round {number} is void"):
                    session.release()
                seen.append("void")
                continue
            _, report = session.release()
            assert report.recovered_holders == len(missing)
            seen.append((len(missing), sets))
            if name == "threshold_exact":
                assert report.max_error == 0.0
            else:
                assert report.max_error < 1e-3
            if sets:
                messages = [link for link in report.link_bytes if "holder" in link]
                assert "server to holder" in messages
        assert "void" in seen and (0, 0) in seen and (1, 1) in seen
        assert any(each != "void" and each[1] > 1 for each in seen)

    def test_runs_of_vanishing_holders_repeat(self):
        drawn = []
        for seed in (1, 1, 2):
            settings = {"holder_drop_out": 0.5}
            aggregation = made("threshold_exact", 3, settings=settings, seed=seed)
            assert "vanishes from a round with probability 0.5" in (
                aggregation.description
            )
            slots = encoded(aggregation, np.zeros((3, 10)))
            drawn.append([recovered(aggregation, slots, n) for n in range(12)])
        assert drawn[0] == drawn[1] != drawn[2]

    def test_nobody_vanishes_by_default(self):
        aggregation = made("threshold_exact", 3)
        slots = encoded(aggregation, np.zeros((3, 10)))
        _, report = released(aggregation, slots)
        assert report.recovered_holders == 0
        aggregation = made("exact", 3)
        assert released(aggregation, slots)[1].recovered_holders is None

    def test_duplicates_are_refused(self):
        session = made("ckks").open(0)
        session.add(np.array([0]), np.zeros((1, 10)))
        with pytest.raises(RefusedError, match="twice"):
            session.add(np.array([0]), np.zeros((1, 10)))

    def test_diverged_and_outlying_updates_are_refused(self):
        session = made("ckks", 2).open(0)
        with pytest.raises(ValueError, match=r"client 5: .*not finite"):
            session.add(np.array([5]), np.full((1, 10), np.nan))
        with pytest.raises(ValueError, match=r"client 6: .*bound of 2"):
            session.add(np.array([6]), np.full((1, 10), -2.1))
        aggregation, rounds = made("exact", 2), itertools.count()
        for value in (np.nan, np.inf, -np.inf):
            slots = encoded(aggregation, np.array([[0.1] * 10, [value] + [0.1] * 9]))
            with pytest.raises(ValueError, match=r"client 8: .*not finite"):
                aggregation.open(next(rounds)).add(np.array([7, 8]), slots)

    def test_descriptions_say_what_is_released_and_who_decrypts(self):
        text = made("ckks").description
        for part in ("4096", "60 bits", "at 128 bits", "3 uploads", "key authority"):
            assert part in text
        assert "a statistical distance of 2^-15.5 over the" in text
        assert "A new key is made after" in text
        assert "UNPROTECTED" in made("ckks", settings={"protect": False}).description
        text = made("ckks", settings={"server": "semi_honest"}).description
        assert "SEMI-HONEST: the server must follow the protocol" in text
        settings = {"server": "semi_honest", "topology": "ring"}
        text = made("ckks", settings=settings).description
        assert "the server and relays must" in text
        text = made("threshold_exact", 4).description
        assert "Clients declare their uploads" in text
        assert "SEMI-HONEST" not in text
        for part in ("BFV", "All 4 holders", "3 of them can stand in", "of 16 bits"):
            assert part in text
        text = made("threshold_exact", settings={"server": "semi_honest"}).description
        assert "2 of them can stand in" in text
        assert "mod 2^16" in made("exact", residues=True).description

    @pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
    def test_memory_stays_flat(self):
        def resident():
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

        # Keys of 20 rounds each.
        aggregation = made("ckks", 2, 5000, settings={"query_budget": 40})
        rows = np.ones((2, 5000), np.float32)

        def rounds(first, count):
            for number in range(first, first + count):
                released(aggregation, rows, round_number=number)

        rounds(0, 100)
        before = resident()
        rounds(100, 500)
        # One upload kept a round would be 59 MiB, a key pair a rotation 5 MiB.
        assert resident() - before < 4
