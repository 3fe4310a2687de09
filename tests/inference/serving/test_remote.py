import numpy as np
import pytest

from fedjax_private.inference.serving.remote import (
    RemoteModel,
    ServiceError,
    read_offer,
)
from tests.inference.serving.answers import TOKEN, Answers, Honest, tiny_offer
from tests.inference.serving.services import images

pytestmark = pytest.mark.needs_openfhe


@pytest.fixture(scope="module")
def offer():
    return tiny_offer()


def test_an_offer_is_read_without_a_token(offer):
    honest = Honest(offer)
    with Answers(honest) as server:
        assert read_offer(server.url) == offer
    assert honest.asked == [("GET", "/model")]


@pytest.mark.parametrize("url", ["", "x", "ftp://x", "http://", "http://x:99999"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ValueError, match="url must have the form"):
        RemoteModel.connect(url, TOKEN)


def test_where_nobody_listens(offer):
    with Answers(Honest(offer)) as server:
        url = server.url
        model = RemoteModel.connect(url, TOKEN)
    with pytest.raises(ServiceError, match="is a service running there"):
        RemoteModel.connect(url, TOKEN)
    model.close()
    model.close()
    with pytest.raises(ServiceError, match="closed"):
        model.predict(images(1))


def test_images_of_another_kind_are_not_sent(offer):
    honest = Honest(offer)
    with Answers(honest) as server, RemoteModel.connect(server.url, TOKEN) as model:
        before = len(honest.asked)
        for bad in (
            np.zeros(16),
            np.zeros((1, 16)),
            np.zeros((1, 4, 4, 3)),
            np.zeros(()),
        ):
            with pytest.raises(ValueError, match="images must be"):
                model.predict(bad)
        with pytest.raises(ValueError, match="uint8 or floats"):
            model.predict(np.zeros((1, 4, 4, 1), np.int64))
        assert len(honest.asked) == before
