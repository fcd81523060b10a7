"""Condition: dropped for each example by itself, told apart from zeros, cut and joined."""

import pytest
import torch

from cfd_course import Condition
from cfd_course.conditions import with_null_image, with_null_token

pytestmark = pytest.mark.usefixtures("one_thread")


def both(count=4, length=3, seed=0):
    random = torch.Generator().manual_seed(seed)
    return Condition(
        image=torch.randn(count, 2, 4, 4, generator=random),
        tokens=torch.randint(10, (count, length), generator=random),
        mask=torch.rand(count, length, generator=random) < 0.7,
    )


def equal(one, other):
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("image", "tokens", "mask", "present")
    )


def test_what_is_not_given_is_all_there():
    condition = Condition(tokens=torch.tensor([[1, 2], [3, 4]]))
    assert condition.image is None and len(condition) == 2
    assert condition.mask.all() and condition.mask.shape == (2, 2)
    assert condition.present.all() and condition.present.shape == (2,)
    pictures = Condition(image=torch.zeros(3, 1, 2, 2))
    assert pictures.mask is None and len(pictures) == 3


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_drop_rate(probability, generator):
    """The number dropped is binomial: within five standard deviations of what was asked for."""
    count = 40_000
    condition = Condition(tokens=torch.zeros(count, 1, dtype=torch.int64))
    dropped = count - int(condition.drop(probability, generator).present.sum())
    deviation = (count * probability * (1 - probability)) ** 0.5
    assert abs(dropped - count * probability) < 5 * deviation


def test_drop_decides_for_each_example(generator):
    """Were it for a batch, each batch of 8 would be dropped as a whole: the number dropped in a
    batch has the binomial's variance, 8 p (1 - p), not the 64 p (1 - p) of whole batches."""
    condition = Condition(tokens=torch.zeros(8, 1, dtype=torch.int64))
    counts = torch.stack(
        [(~condition.drop(0.3, generator).present).sum() for _ in range(4000)]
    ).double()
    assert counts.mean().item() == pytest.approx(8 * 0.3, rel=0.05)
    assert counts.var().item() == pytest.approx(8 * 0.3 * 0.7, rel=0.15)


def test_neighbours_are_dropped_independently(generator):
    condition = Condition(tokens=torch.zeros(40_000, 1, dtype=torch.int64))
    present = condition.drop(0.5, generator).present.double()
    correlation = torch.corrcoef(torch.stack([present[1:], present[:-1]]))[0, 1]
    assert abs(correlation) < 5 / 40_000**0.5


def test_drop_at_its_ends_and_what_it_leaves_alone(generator):
    condition = both()
    assert equal(condition.drop(0.0, generator), condition)
    assert not condition.drop(1.0, generator).present.any()
    assert condition.present.all()  # the original is unchanged
    dropped = condition.drop(0.5, generator)
    for name in ("image", "tokens", "mask"):
        assert torch.equal(getattr(dropped, name), getattr(condition, name))
    assert not condition.absent().drop(0.0).present.any()  # what is absent stays so


def test_drop_repeats_with_the_generator():
    condition = Condition(tokens=torch.zeros(100, 1, dtype=torch.int64))
    first, second, other = (
        condition.drop(0.5, torch.Generator().manual_seed(seed)).present for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_drop_without_a_generator_uses_torchs_own():
    condition = Condition(tokens=torch.zeros(100, 1, dtype=torch.int64))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = condition.drop(0.5).present
        torch.manual_seed(1)
        assert torch.equal(condition.drop(0.5).present, first)
    assert 0 < first.sum() < 100


def test_absent():
    condition = both()
    assert not condition.absent().present.any()
    assert torch.equal(condition.absent().image, condition.image)


@pytest.mark.parametrize(
    "rows, numbers",
    [
        (2, [2]),
        (-1, [3]),
        (slice(1, 3), [1, 2]),
        (slice(None, None, 2), [0, 2]),
        ([3, 0, 3], [3, 0, 3]),
        (torch.tensor([1, 1]), [1, 1]),
        (torch.tensor([True, False, False, True]), [0, 3]),
    ],
)
def test_indexing(rows, numbers):
    condition = both().drop(0.5, torch.Generator().manual_seed(1))
    part = condition[rows]
    assert len(part) == len(numbers)
    for name in ("image", "tokens", "mask", "present"):
        assert torch.equal(getattr(part, name), getattr(condition, name)[numbers])


def test_a_loop_over_the_examples_ends():
    condition = both()
    assert equal(Condition.concatenate(list(condition)), condition)
    with pytest.raises(IndexError, match="rows should pick at least one of the 4 examples"):
        condition[4]


def test_concatenate():
    one, other = both(2), both(3, seed=1).absent()
    joined = Condition.concatenate([one, other])
    assert len(joined) == 5
    assert equal(joined[:2], one) and equal(joined[2:], other)
    with pytest.raises(ValueError, match="parts should be alike"):
        Condition.concatenate([one, Condition(image=one.image)])
    with pytest.raises(ValueError, match="parts should be alike"):
        Condition.concatenate([one, both(3, length=4)])


def test_a_mask_of_patches_goes_with_its_image():
    """Without tokens: one for each patch of a picture that a network attends to."""
    mask = torch.rand(4, 9, generator=torch.Generator().manual_seed(1)) < 0.5
    condition = Condition(image=both().image, mask=mask)
    assert condition.tokens is None and torch.equal(condition.mask, mask)
    assert torch.equal(condition[[2, 0]].mask, mask[[2, 0]])
    assert torch.equal(Condition.concatenate([condition, condition]).mask, torch.cat([mask, mask]))
    assert torch.equal(condition.absent().mask, mask)


def test_moving():
    condition = both()
    assert equal(condition.to("cpu"), condition)
    moved = condition.to("meta")
    for name in ("image", "tokens", "mask", "present"):
        assert getattr(moved, name).device.type == "meta"


def test_the_null_image_is_not_zero_and_hides_everything():
    image = both(3).image
    present = torch.tensor([True, False, True])
    null = torch.tensor([0.5, -2.0])
    seen = with_null_image(image, present, null)
    assert seen.shape == (3, 3, 4, 4)
    assert torch.equal(seen[present][:, :2], image[present])
    assert torch.equal(seen[1, :2], null[:, None, None].expand(2, 4, 4))
    assert torch.equal(seen[:, 2], present.float()[:, None, None].expand(3, 4, 4))
    # What was hidden cannot be told, not even that it was broken.
    other = image.clone()
    other[1] = float("nan")
    assert torch.equal(with_null_image(other, present, null), seen)
    # A zero picture with a zero null still differs from an absent one, by the flag.
    zeros, zero = torch.zeros(2, 2, 4, 4), torch.zeros(2)
    shown, hidden = with_null_image(zeros, torch.tensor([True, False]), zero)
    assert not torch.equal(shown, hidden)


def test_gradient_reaches_the_null_only_through_the_absent():
    image, null = both(2).image, torch.zeros(2, requires_grad=True)
    for present, reached in (([True, True], 0.0), ([True, False], 16.0)):
        seen = with_null_image(image, torch.tensor(present), null)
        (gradient,) = torch.autograd.grad(seen.sum(), null)
        assert gradient.tolist() == [reached, reached]


def test_the_null_token_stands_first_and_always():
    random = torch.Generator().manual_seed(0)
    tokens, null = torch.randn(3, 4, 5, generator=random), torch.randn(5, generator=random)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]).bool()
    present = torch.tensor([True, False, True])
    longer, attended = with_null_token(tokens, mask, present, null)
    assert torch.equal(longer[:, 0], null.expand(3, 5))
    assert torch.equal(longer[:, 1:], tokens)
    assert attended.int().tolist() == [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]


def test_the_softmax_is_never_empty():
    """Attention over an all-padding caption, or an absent one, is the null token's value."""
    tokens, null = torch.randn(2, 3, 4), torch.randn(4)
    mask = torch.tensor([[False] * 3, [True] * 3])
    keys, attended = with_null_token(tokens, mask, torch.tensor([True, False]), null)
    query = torch.randn(2, 6, 4)
    out = torch.nn.functional.scaled_dot_product_attention(
        query, keys, keys, attn_mask=attended[:, None]
    )
    torch.testing.assert_close(out, null.expand(2, 6, 4))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: Condition(), "should hold an image or tokens"),
        (lambda: Condition(image=torch.zeros(2, 3)), "image should have shape [B, C, H, W]"),
        (lambda: Condition(tokens=torch.zeros(2)), "tokens should have shape"),
        (lambda: Condition(tokens=torch.zeros(2, 3)), "tokens should have shape [B, L, D]"),
        (lambda: Condition(tokens=[[1]]), "tokens should be an int tensor"),
        (
            lambda: Condition(torch.zeros(2, 1, 4, 4), torch.zeros(3, 1).long()),
            "tokens should have shape [2, L]",
        ),
        (lambda: Condition(torch.zeros(2, 1, 4, 4), mask=torch.ones(3, 1).bool()), "mask should"),
        (
            lambda: Condition(torch.zeros(2, 1, 4, 4), mask=torch.ones(2, 1)),
            "mask should be a bool",
        ),
        (lambda: Condition(tokens=torch.zeros(2, 3).long(), mask=torch.ones(2, 3)), "mask should"),
        (lambda: both().__class__(both().image, present=torch.ones(3).bool()), "present should"),
        (lambda: both().drop(1.5), "probability should be in 0..1, but 1.5 came"),
        (lambda: both().drop(0.5, 0), "generator should be of type Generator or None"),
        (lambda: both().to("nowhere"), "device should be"),
        (lambda: Condition.concatenate([]), "parts should be a list of at least 1"),
        (lambda: with_null_image(both().image, both().present, torch.zeros(3)), "null should have"),
    ],
)
def test_refusals_say_what_to_do(call, words):
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert words in str(error.value)
