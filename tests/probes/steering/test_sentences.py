from cache.families.family import FAMILIES
from probes.steering.sentences import PLAIN_SENTENCES


def test_there_are_fifty_different_sentences():
    assert len(set(PLAIN_SENTENCES)) == 50


def test_none_shows_a_member_of_a_family_that_is_steered():
    members = {word.lower() for name in ("digits", "numwords", "months", "days") for word in FAMILIES[name].members}
    for text in PLAIN_SENTENCES:
        assert not members & set(text.lower().replace(",", "").split()), text
