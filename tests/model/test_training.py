"""Training: a dictionary holds what many have in common, and nothing that only few have."""

import secrets

import pytest

from coatcheck import NotEnoughSessions
from coatcheck.model.codec import encode
from coatcheck.model.payload import Payload
from coatcheck.model.training import FEWEST_HOLDERS, SIZES, Sample, anonymous, train

BACKEND = "django.contrib.auth.backends.ModelBackend"


def body(number, **further):
    """Make a payload of a shop's session, with a name that nobody else has."""
    attributes = {
        "user_id": number,
        "email": f"{secrets.token_hex(5)}@example.org",
        "backend": BACKEND,
        "cart": [{"sku": f"BK-{number * 7919 % 30:05d}", "title": "Notes on the Engine", "n": number % 3}],
        **further,
    }
    return Payload(str(number), {name: encode(value) for name, value in attributes.items()}).encode()


def samples(count, **further):
    """Make samples of as many holders."""
    return [Sample(str(number), body(number, **further)) for number in range(count)]


def grams(texts, size=6):
    """List all pieces of *texts* of *size* bytes."""
    return {text[at : at + size] for text in texts for at in range(len(text) - size + 1)}


@pytest.mark.requirement("R60")
def test_nothing_that_few_have():
    """No word that occurs in the sessions of 19 holders gets into what is trained on; what 20 have does."""
    rare, common = b"correcthorsebatterystaple", b"philanthropicmuseumvisits"
    given = [Sample(str(i), body(i, a=rare.decode() if i < FEWEST_HOLDERS - 1 else "") + bytes(1)) for i in range(300)]
    given += [Sample(f"x{i}", body(i, a=common.decode())) for i in range(FEWEST_HOLDERS)]

    texts = anonymous(given)
    content = b"".join(texts)

    assert not grams([rare], 7) & grams(texts, 7)
    assert common in content
    assert BACKEND.encode() in content


@pytest.mark.requirement("R60")
def test_one_holder_counts_once():
    """A secret that one user has in any number of sessions stays out, however often it occurs."""
    secret = secrets.token_hex(40)
    given = samples(300)
    given += [Sample("ada", body(7, note=secret)) for _ in range(100)]

    texts = anonymous(given)

    assert not grams([secret.encode()], 12) & grams(texts, 12)


@pytest.mark.requirement("R60")
def test_what_stands_together_means_nothing():
    """Two common words that only one holder's session puts together are not put together again for that reason."""
    illnesses, boroughs = (b"an asthma", b"no asthma"), (b"in Camden", b"in Hackney")
    given = [
        Sample(str(i), illnesses[i % 2] + secrets.token_bytes(9) + boroughs[i % 2]) for i in range(200)
    ]  # who has one lives in the other borough

    dealt = {tuple(word in text for word in (*illnesses, *boroughs)) for _ in range(3) for text in anonymous(given)}

    assert {(True, False, False, True), (False, True, True, False)} <= dealt


def test_texts_are_like_the_samples():
    """What is trained on has the length of the samples, and the same bytes between the pieces, in another order."""
    given = samples(250)

    texts = anonymous(given)

    assert sum(map(len, texts)) == sum(len(sample.body) for sample in given)
    assert sorted(b"".join(texts)) == sorted(b"".join(sample.body for sample in given))


def test_training_pays():
    """Sessions that resemble each other become much shorter, ones that it was not trained on too."""
    done = train(samples(600))

    assert len(done.dictionary.content) in SIZES
    assert (done.samples, done.measured) == (480, 120)
    assert done.after < 0.5 * done.plain
    assert done.pays
    assert 0 < done.decompress_us < 1000
    assert 0 < done.compress_us < 1000


def test_measured_beside_the_present_one():
    """A second dictionary is measured beside the first, and does not pay where it is no better."""
    given = samples(600)
    first = train(given)

    second = train(given, first.dictionary)

    assert second.before < 0.6 * first.before
    assert not second.pays


def test_too_few():
    """It takes 200 sessions."""
    with pytest.raises(NotEnoughSessions) as caught:
        train(samples(199))

    assert str(caught.value) == "it takes 200 sessions to train a dictionary, and 199 live"


@pytest.mark.parametrize("make", [lambda _: secrets.token_bytes(100), lambda _: b""], ids=["random", "empty"])
def test_nothing_in_common(make):
    """Sessions with nothing in common give no dictionary that pays, or none at all."""
    given = [Sample(str(number), make(number)) for number in range(300)]

    try:
        done = train(given)
    except NotEnoughSessions as error:
        assert str(error) == (  # noqa: PT017
            "300 sessions have too little in common to train a dictionary: what it holds must occur in sessions of at "
            "least 20 users"
        )
    else:
        assert not done.pays


def test_large_samples_are_cut():
    """Of a large session only the beginning is used."""
    given = [Sample(str(number), bytes(5000)) for number in range(30)]

    assert sum(len(text) for text in anonymous(given)) == 30 * 4096
