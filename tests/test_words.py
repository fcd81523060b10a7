"""Frozen word vectors and the encoder on top: the learner's own words."""

import pytest
import torch

from cfd_course.datasets.emoji import emoji_words, plain
from cfd_course.words import LONGEST, WordEncoder, fits, meanings, word_pieces, word_vectors


def test_a_caption_becomes_its_pieces_behind_what_stands_before():
    alone = word_pieces(["a red heart"])
    assert alone.tokens.shape == (1, 3) and alone.mask.all()
    told = word_pieces(["a red heart", "heart"], [(2,), (5,)])
    last = len(word_vectors())  # the number of the last word piece
    assert told.tokens[:, 0].tolist() == [last + 2, last + 5]
    assert torch.equal(told.tokens[0, 1:], alone.tokens[0])
    assert told.tokens[1, 1] == told.tokens[0, 3] and told.mask.tolist()[1] == [
        True,
        True,
        False,
        False,
    ]


def test_capitals_accents_and_punctuation_are_read_alike():
    same = word_pieces(["A Red HEART", "a réd heart"]).tokens
    assert torch.equal(same[0], same[1])
    assert word_pieces(["red, heart"]).tokens.shape == (1, 3)


@pytest.mark.parametrize("caption", ["", "   ", "flibbertigibbet", "x" * 20, "7", "naïve café"])
def test_any_latin_caption_is_read(caption):
    condition = word_pieces([caption], [(1,)])
    assert condition.tokens[0, 0] == len(word_vectors()) + 1 and len(condition.tokens[0]) <= LONGEST
    assert WordEncoder(16, 1)(condition.tokens).isfinite().all()


def test_an_empty_caption_is_read_with_nothing_before_it():
    assert WordEncoder(16, 0)(word_pieces([""]).tokens).isfinite().all()


@pytest.mark.parametrize("caption", ["красное сердце", "赤いハート", "قلب أحمر", "♞♞", "!?"])
def test_another_script_is_refused(caption):
    with pytest.raises(ValueError, match="a caption should hold English words, but .* came"):
        word_pieces([caption])


def test_a_thousand_words_are_refused_with_their_number():
    with pytest.raises(ValueError, match="at most 31 pieces of words, but 1000 in 'heart heart"):
        word_pieces(["heart " * 1000], [(1,)])


@pytest.mark.parametrize("captions", ["a heart", [], [3], None])
def test_captions_are_a_list_of_texts(captions):
    with pytest.raises(TypeError, match="captions should be a list of captions"):
        word_pieces(captions)


def test_a_meaning_is_the_mean_of_the_vectors_in_any_order():
    heart, red = (word_vectors()[word_pieces([word]).tokens[0, 0] - 1] for word in ("heart", "red"))
    found = meanings(["red heart", "heart red", "red", "", "♞"])
    torch.testing.assert_close(found[0], (red + heart) / 2)
    assert torch.equal(found[0], found[1]) and torch.equal(found[2], red)
    assert not found[3:].any()


def test_what_fits_into_a_row_is_what_can_be_told():
    longest = "heart " * (LONGEST - 1)
    assert fits(longest) and word_pieces([longest], [(1,)]).mask.all()
    assert not fits(longest + "heart") and fits(longest + "heart", before=0)


def nearest(caption: str, count: int) -> list[str]:
    """The names whose mean vector is nearest to the caption's."""
    names = sorted({plain(n) for drawn in emoji_words()["hands"].values() for n in drawn})
    condition = word_pieces([caption, *(name.replace("-", " ") for name in names)])
    vectors = word_vectors()[(condition.tokens - 1).clamp(min=0)] * condition.mask[..., None]
    means = torch.nn.functional.normalize(vectors.sum(1), dim=1)
    return [names[i] for i in (means[1:] @ means[0]).topk(count).indices]


@pytest.mark.parametrize(
    "caption, name",
    [
        ("king of the jungle", "lion"),
        ("winter", "snowman"),
        ("a pirate ship at sea", "ship"),
        ("a woman who flies planes", "airplane"),
        ("breakfast", "egg"),
    ],
)
def test_words_that_no_name_holds_lie_near_what_they_mean(caption, name):
    assert name in nearest(caption, 5)


def test_the_encoder_hides_padding_and_knows_the_order():
    torch.manual_seed(0)
    encoder = WordEncoder(32, 2).eval()
    short = word_pieces(["red heart"], [(1,)]).tokens
    long = word_pieces(["red heart", "a big yellow taxi"], [(1,), (2,)]).tokens
    assert torch.allclose(encoder(long)[0, :3], encoder(short)[0], atol=1e-5)
    turned = encoder(word_pieces(["heart red"], [(1,)]).tokens)
    assert not torch.allclose(turned.mean(1), encoder(short).mean(1), atol=1e-2)


def test_the_vectors_are_frozen_and_in_no_checkpoint():
    encoder = WordEncoder(16, 3).eval()
    before = encoder.vectors.clone()
    encoder(word_pieces(["a red heart"], [(3,)]).tokens)[..., 0].sum().backward()
    assert encoder.learned.weight.grad[3].any() and not encoder.learned.weight.grad[1:3].any()
    assert not encoder.vectors.requires_grad and torch.equal(encoder.vectors, before)
    assert "vectors" not in encoder.state_dict()
    assert word_vectors().shape == (29_525, 256)
    assert abs(float(word_vectors().square().mean()) - 1) < 1e-3


def test_every_name_and_keyword_can_be_read():
    words = emoji_words()
    captions = {name.replace("-", " ") for drawn in words["hands"].values() for name in drawn}
    captions |= {word for keywords in words["keywords"].values() for word in keywords}
    assert word_pieces(sorted(captions)).mask.any(1).all()


def test_a_word_has_its_own_vector_whatever_stands_before_it():
    """Of a picture of the whole path: the vectors that the first layer is given."""
    encoder = WordEncoder(16, 5).eval()
    seen = []
    encoder.project.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    piece = word_pieces(["heart"]).tokens[0, 0] - 1
    for before in ([()], [(1,)], [(5,)]):
        encoder(word_pieces(["a red heart"], before).tokens)
        assert torch.equal(seen.pop()[0, -1], word_vectors()[piece])


def test_words_are_told_with_noise_in_training_only():
    encoder = WordEncoder(16, 0)
    tokens = word_pieces(["a red heart"]).tokens
    assert not torch.equal(encoder(tokens), encoder(tokens))
    encoder.eval()
    assert torch.equal(encoder(tokens), encoder(tokens))
