"""Right answers to each exercise, written differently from the notebook's own solution.

As other good students might write them: with the formula arranged differently, a loop for an
operation on the whole batch, one function of PyTorch for another, NumPy where it is fair. A
function for each exercise; others are in right_answers.txt. No check may refuse one.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import MultivariateNormal

from cfd_course import Condition, sampling
from cfd_course.datasets.photos import bicubic, shrink
from cfd_course.datasets.shapes import RELATIONS, VOCABULARY
from cfd_course.pipelines.emoji_enlarger import NOISIEST
from cfd_course.text import LONGEST, PADDING

# --- Lesson 01, forward noising ---


def add_noise(schedule, x_0, t, noise):
    """The squares of the two weights add up to 1: they are a cosine and a sine."""
    angle = schedule.alpha_bars[t].sqrt().acos().to(x_0.dtype)
    angle = angle.view(-1, *[1 for _ in x_0.shape[1:]])
    return torch.cos(angle) * x_0 + torch.sin(angle) * noise


def snr(schedule, t):
    """The odds of the picture against the noise."""
    return torch.logit(schedule.alpha_bars[t]).exp()


def predict_x0(schedule, x_t, t, noise):
    """Picture by picture, divided term by term."""
    times = torch.as_tensor(t).expand(len(x_t)).tolist()
    guesses = []
    for picture, time, its_noise in zip(x_t, times, noise, strict=True):
        larger = 1 / schedule.alpha_bars[time].item()
        guesses.append(math.sqrt(larger) * picture - math.sqrt(larger - 1) * its_noise)
    return torch.stack(guesses)


# --- Lesson 02, reverse denoising ---


def posterior(schedule, x_0, x_t, t):
    """What x_0 says of x_{t-1}, put right by what x_t says: a step of a Kalman filter."""
    beta, alpha, before = (
        table.view(-1, *[1] * (x_t.ndim - 1))
        for table in (schedule.betas[t], schedule.alphas[t], schedule.alpha_bars[t - 1])
    )
    expected, uncertain = before.sqrt() * x_0, 1 - before
    gain = uncertain * alpha.sqrt() / (alpha * uncertain + beta)
    mean = expected + gain * (x_t - alpha.sqrt() * expected)
    variance = (1 - gain * alpha.sqrt()) * uncertain
    return mean.type_as(x_t), variance.type_as(x_t)


def noise_loss(network, schedule, x_0, condition, t, noise):
    """The squared length of the error as a vector, for each of its entries."""
    error = noise - network(schedule.add_noise(x_0, t, noise), t, condition)
    return torch.dot(error.flatten(), error.flatten()) / error.numel()


@torch.enable_grad()
def score(mixture, x, alpha_bar):
    """The gradient that PyTorch finds of the log density."""
    points = x.detach().double().requires_grad_()
    one = torch.eye(x.shape[1], dtype=torch.float64)
    logs = []
    for weight, mean, covariance in zip(
        mixture.weights, mixture.means, mixture.covariances, strict=True
    ):
        island = MultivariateNormal(
            math.sqrt(alpha_bar) * mean, torch.lerp(one, covariance, alpha_bar)
        )
        logs.append(weight.log() + island.log_prob(points))
    log_density = torch.logsumexp(torch.stack(logs), dim=0)
    (gradient,) = torch.autograd.grad(log_density.sum(), points)
    return gradient.to(x.dtype)


# --- Lesson 03, building the U-Net ---


def time_embedding(t, channels):
    """Waves as complex numbers."""
    half = channels // 2
    speeds = torch.logspace(0, -4 * (half - 1) / half, half)
    angles = torch.outer(t.float(), speeds)
    waves = torch.polar(torch.ones_like(angles), angles)
    return torch.hstack([waves.imag, waves.real])


def residual_block(block, x, embedding):
    """The layers in rows; scale and shift as two rows of one tensor."""
    inwards = nn.Sequential(block.norm_1, nn.SiLU(), block.conv_1, block.norm_2)
    outwards = nn.Sequential(nn.SiLU(), block.conv_2)
    told = block.modulation(embedding * embedding.sigmoid())
    scale, shift = told.unflatten(1, (2, -1, 1, 1)).unbind(1)
    h = inwards(x)
    return outwards(torch.addcmul(h + shift, h, scale)) + block.shortcut(x)


def attention(query, key, value, mask=None):
    """The softmax by hand, divided by its sum at the end."""
    scores = torch.einsum("...nd,...md->...nm", query, key).div(math.sqrt(key.size(-1)))
    weights = torch.exp(scores - scores.amax(dim=-1, keepdim=True))
    if mask is not None:
        weights = weights * mask
    return torch.einsum("...nm,...md->...nd", weights, value) / weights.sum(-1, keepdim=True)


def decode(unet, h, skips, embedding, tokens=None, mask=None):
    """From the last level to the first, each pixel repeated on the way."""
    layers = zip(unet.up_blocks, unet.up_attention, [None, *unet.upsample], skips, strict=True)
    for block, attend, enlarge, skip in reversed(list(layers)):
        h = block(torch.hstack([h, skip]), embedding)
        if attend is not None:
            h = attend(h, tokens, mask)
        if enlarge is not None:
            h = enlarge(h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    return h


# --- Lesson 04, training and sampling ---


def training_step(network, optimizer, schedule, x_0, condition, t, noise):
    """The gradient asked for as a result, instead of left in the weights by backward."""
    weights = list(network.parameters())
    loss = F.mse_loss(network(schedule.add_noise(x_0, t, noise), t, condition), noise)
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        weight.grad = gradient
    optimizer.step()
    return float(loss)


def update_average(average, network, decay):
    """Through the state dictionaries, which hold no history."""
    newest = network.state_dict()
    average.load_state_dict(
        {
            name: decay * slow + (1 - decay) * newest[name]
            for name, slow in average.state_dict().items()
        }
    )


def ddpm_step(schedule, x_t, t, noise, fresh):
    """DDPM algorithm 2 as it is printed, with the other of its two variances."""
    beta, alpha = schedule.betas[t].item(), schedule.alphas[t].item()
    here, before = schedule.alpha_bars[t].item(), schedule.alpha_bars[t - 1].item()
    mean = (x_t - beta / math.sqrt(1 - here) * noise) / math.sqrt(alpha)
    return mean + math.sqrt(beta * (1 - before) / (1 - here)) * fresh


def ddim_step(schedule, x_t, t, s, noise):
    """One weight for x_t and one for the noise."""
    here, there = float(schedule.alpha_bars[t]), float(schedule.alpha_bars[s])
    larger = math.sqrt(there / here)
    return larger * x_t + (math.sqrt(1 - there) - larger * math.sqrt(1 - here)) * noise


def middle_guess(x_0, last_x_0, stride, last_stride):
    """A weight for each of the two guesses."""
    share = 0.5 * stride / last_stride
    return torch.lerp(last_x_0, x_0, 1 + share)


# --- Lesson 05, condition dropout ---


def drop(condition, probability, generator=None):
    """A coin for each example, and all four fields by name."""
    kept = torch.empty(len(condition)).bernoulli_(1 - probability, generator=generator).bool()
    return Condition(
        image=condition.image,
        tokens=condition.tokens,
        mask=condition.mask,
        present=torch.logical_and(condition.present, kept),
    )


def with_null_image(image, present, null):
    """The colours of a copy painted over where the picture is absent."""
    seen = image.clone()
    seen[~present] = null.view(-1, 1, 1)
    plane = torch.zeros_like(image[:, :1])
    plane[present] = 1
    return torch.hstack([seen, plane])


def with_null_token(tokens, mask, present, null):
    """Rows one longer, filled in place by place."""
    count, length, channels = tokens.shape
    longer, seen = tokens.new_empty(count, length + 1, channels), mask.new_ones(count, length + 1)
    longer[:, 0] = null
    longer[:, 1:] = tokens
    seen[:, 1:] = mask
    seen[~present, 1:] = False
    return longer, seen


# --- Lesson 06, classifier-free guidance ---


def guide(network, condition, scale):
    """The told half first, and the rest of the push on top of it."""

    def denoise(x_t, t):
        nothing = replace(condition, present=torch.zeros_like(condition.present))
        both = Condition.concatenate([condition, nothing])
        told, null = torch.split(network(torch.vstack([x_t, x_t]), t, both), len(x_t))
        return told + (scale - 1) * (told - null)

    return denoise


def paper_scale(w):
    """What the paper makes of predictions that are 0 without and 1 with the condition, for there
    the course gets its scale."""
    null, conditional = 0, 1
    return (1 + w) * conditional - w * null


def clip_guess(schedule, x_t, t, noise, clip):
    """What is cut off the picture is added to the noise."""
    guess = schedule.predict_x0(x_t, t, noise)
    clipped = guess.minimum(torch.full_like(guess, clip)).maximum(torch.full_like(guess, -clip))
    return clipped, noise + schedule.snr(t).sqrt().to(noise.dtype) * (guess - clipped)


# --- Lesson 07, measuring guidance ---


def frechet_distance(features, real):
    """Without covariances: X^T X and Y^T Y are those of the crowds, and the trace of the root of
    their product is the sum of the singular values of X Y^T."""
    middles = [crowd.double().mean(dim=0) for crowd in (features, real)]
    first, second = (
        (crowd.double() - middle) / math.sqrt(len(crowd) - 1)
        for crowd, middle in zip((features, real), middles, strict=True)
    )
    overlap = torch.linalg.svdvals(first @ second.mT).sum()
    apart = torch.dist(*middles) ** 2
    return (apart + first.pow(2).sum() + second.pow(2).sum() - 2 * overlap).item()


def precision_recall(features, real, neighbours=3):
    """Point by point, with squared distances."""

    def squared_distances(points, crowd):
        return (points[:, None, :] - crowd[None, :, :]).pow(2).sum(dim=2)

    def share_among(points, crowd):
        within = squared_distances(crowd, crowd).fill_diagonal_(torch.inf)
        reach = within.topk(neighbours, dim=1, largest=False).values[:, -1]
        inside = [bool((row <= reach).any()) for row in squared_distances(points, crowd)]
        return sum(inside) / len(inside)

    return share_among(features, real), share_among(real, features)


def interval_scale(scale, low, high):
    """A table of the times at which the scale is another than 1."""
    scales = dict.fromkeys(range(low, high + 1), scale)
    return lambda t: scales.get(t, 1.0)


# --- Lesson 08, super-resolution ---


def concatenate(x_t, image, present, null):
    """Example by example."""
    seen = []
    for noisy, picture, is_there in zip(x_t, image, present.tolist(), strict=True):
        if not is_there:
            picture = null[:, None, None].expand(picture.shape)
        flag = torch.full_like(picture[:1], float(is_there))
        seen.append(torch.cat([noisy, picture, flag]))
    return torch.stack(seen)


def condition_features(unet, seen):
    """Patches cut out by unfold, and each layer after the first asked about the last entry."""
    rows, columns = (size // unet.patch for size in seen.shape[2:])
    patches = F.unfold(seen, unet.patch, stride=unet.patch).unflatten(2, (rows, columns))
    first, *others = unet.condition_levels
    features = [first(patches)]
    for level in others:
        features.append(level(features[-1] * torch.sigmoid(features[-1])))
    return features


def back_project(pictures, low, rounds=5):
    """Only the difference is shrunk in each round: shrinking is linear."""
    missing, correction = low - shrink(pictures), torch.zeros_like(pictures)
    for _ in range(rounds):
        enlarged_difference = bicubic(missing)
        correction = correction + enlarged_difference
        missing = missing - shrink(enlarged_difference)
    return pictures + correction


# --- Lesson 09, inpainting ---


def composite(known, filled, mask):
    """A copy of what is known, with the hole written into it."""
    everywhere, result = mask.expand_as(known), known.clone()
    result[everywhere] = filled[everywhere]
    return result


def masked(pictures, mask):
    """Both parts chosen by the mask."""
    hidden = torch.where(mask, torch.zeros_like(pictures), pictures)
    plane = torch.where(mask, 1.0, -1.0)
    return Condition(image=torch.hstack([hidden, plane]))


def repaint_step(denoise, schedule, x_t, t, s, known, mask, generator=None):
    """All the noise drawn at once, and both halves written out; at s = 0 no noise is left."""
    here, there = schedule.alpha_bars[t].item(), schedule.alpha_bars[s].item()
    for_the_known, for_the_hole = torch.randn(2, *x_t.shape, generator=generator)
    guess = (x_t - math.sqrt(1 - here) * denoise(x_t, t)) / math.sqrt(here)
    guess = guess.clip(-1, 1)
    rest = (1 - there) / (1 - here)
    mean = math.sqrt(there) * guess + math.sqrt(here / there) * rest * (
        x_t - math.sqrt(here) * guess
    )
    drawn = mean + math.sqrt(rest * (1 - here / there)) * for_the_hole
    beside = math.sqrt(there) * known + math.sqrt(1 - there) * for_the_known
    return beside.masked_fill(mask, 0) + drawn.masked_fill(~mask, 0)


# --- Lesson 10, text to image ---


def tokenise(captions):
    """Lists filled up first; the mask from the numbers of words."""
    rows = [[VOCABULARY.index(word) + 1 for word in caption.split(" ")] for caption in captions]
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.tensor([row + [PADDING] * (LONGEST - len(row)) for row in rows])
    return Condition(tokens=tokens, mask=torch.arange(LONGEST) < lengths[:, None])


def cross_attention(queries, keys, values, mask):
    """Each example with the words that count, and no others."""
    heard, weights = [], torch.zeros(len(queries), queries.shape[1], keys.shape[1])
    for number, words in enumerate(mask):
        scores = queries[number] @ keys[number, words].T / math.sqrt(queries.shape[2])
        weights[number, :, words] = F.softmax(scores, dim=1)
        heard.append(weights[number, :, words] @ values[number, words])
    return torch.stack(heard), weights


def held_out(captions, share, generator):
    """The pairs in alphabetical order, and those of the lowest lots."""

    def pair_of(caption):
        for relation in RELATIONS:
            first, found, second = caption.partition(f" {relation} ")
            if found:
                return min(first, second), max(first, second)

    pairs = sorted({pair_of(caption) for caption in captions})
    lots = torch.rand(len(pairs), generator=generator)
    chosen = lots.argsort().argsort() < round(share * len(pairs))
    return torch.stack([chosen[pairs.index(pair_of(caption))] for caption in captions])


# --- Lesson 11, the debugging clinic ---


def alpha_bars(steps):
    """A product as the exponential of a sum."""
    betas = torch.linspace(0.0001, 0.02, steps)
    return torch.exp(torch.cumsum(torch.log1p(-betas), dim=0))


def share_at(alpha_bars, t):
    """With t = 0 in front of the table, t itself is the place."""
    return torch.cat([alpha_bars.new_ones(1), alpha_bars]).take(t)


def add_noise_picture_by_picture(alpha_bars, x_0, t, noise):
    """A loop over the batch."""
    x_t = torch.empty_like(x_0)
    for number, time in enumerate(t.tolist()):
        share = alpha_bars[time].item()
        x_t[number] = math.sqrt(share) * x_0[number] + math.sqrt(1 - share) * noise[number]
    return x_t


def step_mean(schedule, x_t, t, noise):
    """By way of the guess of x_0."""
    mean, _ = schedule.posterior(schedule.predict_x0(x_t, t, noise), x_t, t)
    return mean


def time_features(t, frequencies):
    """A cosine is a sine that is a quarter of a turn ahead."""
    angles = torch.outer(t.double(), frequencies.double())
    return torch.sin(torch.hstack([angles, angles + math.pi / 2])).float()


def residual(x, conv_1, conv_2):
    """The branch as a network of its own."""
    branch = nn.Sequential(conv_1, nn.ReLU(), conv_2)
    return branch(x).add(x)


def as_rows(x):
    """The channels taken apart and put together at the end."""
    return torch.stack(x.unbind(1), dim=-1).flatten(1, 2)


def attend(queries, keys, values, heads):
    """Head by head."""
    parts = zip(*(x.chunk(heads, dim=2) for x in (queries, keys, values)), strict=True)
    return torch.cat([F.scaled_dot_product_attention(*part) for part in parts], dim=2)


def look_at_words(x, attend, words):
    """The sum of the two."""
    return torch.stack([attend(x, words), x]).sum(dim=0)


def decoder_channels(base):
    """Each block gets as much from its skip as from below, and leaves half, but no less than the
    base."""
    return [(2 * width, max(width // 2, base)) for width in (4 * base, 2 * base, base)]


def enlarge_to(h, skip):
    """The old row and column of each new one."""
    rows, columns = (
        torch.arange(large) * small // large
        for small, large in zip(h.shape[2:], skip.shape[2:], strict=True)
    )
    return h[:, :, rows[:, None], columns]


def to_range(pictures):
    """A table of the 256 values that there are."""
    return torch.linspace(-1, 1, 256)[pictures.long()]


def draw_times(count, steps, generator):
    """Lots with replacement."""
    chances = torch.ones(steps)
    return 1 + torch.multinomial(chances, count, replacement=True, generator=generator)


def told(count, drop, generator):
    """A coin for each."""
    return torch.bernoulli(torch.full((count,), 1 - drop), generator=generator).bool()


def hide_labels(labels, told, classes):
    """A copy, written over."""
    hidden = labels.clone()
    hidden[~told] = classes
    return hidden


def train_on(network, optimizer, batches):
    """The gradients wiped out after each step, not before it."""
    losses = []
    for x, wanted in batches:
        loss = F.mse_loss(network(x), wanted)
        loss.backward()
        optimizer.step()
        network.zero_grad()
        losses.append(float(loss))
    return losses


@torch.inference_mode()
def preview(network, average, x):
    """PyTorch's stricter no_grad."""
    return average.train(False)(x)


def guided(null, told, scale):
    """A line through both predictions."""
    return torch.lerp(null, told, scale)


def both_at_once(network, x_t, t, condition):
    """Told first, and returned the other way round."""
    conditions = Condition.concatenate([condition, condition.absent()])
    predictions = network(x_t.repeat(2, *[1] * (x_t.ndim - 1)), t, conditions)
    return predictions[len(x_t) :], predictions[: len(x_t)]


def ddim_step_clipped(schedule, x_t, t, s, noise):
    """What is left of x_t without the guess, made fit for s."""
    here, there = float(schedule.alpha_bars[t]), float(schedule.alpha_bars[s])
    guess = (x_t - math.sqrt(1 - here) * noise) / math.sqrt(here)
    guess = F.hardtanh(guess)
    rest = x_t - math.sqrt(here) * guess
    return math.sqrt(there) * guess + math.sqrt((1 - there) / (1 - here)) * rest


def ancestral_step(schedule, x_t, t, s, x_0, z):
    """The posterior's mean as x_0 and a share of what x_t adds to it."""
    here, there = schedule.alpha_bars[t].item(), schedule.alpha_bars[s].item()
    kept = here / there
    surprise = x_t - math.sqrt(here) * x_0
    mean = math.sqrt(there) * x_0 + math.sqrt(kept) * (1 - there) / (1 - here) * surprise
    return mean + (s > 0) * math.sqrt(1 - kept) * z


def masked_input(pictures, mask):
    """One more plane padded on, and both written over in the hole."""
    seen = F.pad(pictures, (0, 0, 0, 0, 0, 1), value=-1.0)
    seen[:, :-1].masked_fill_(mask, 0)
    seen[:, -1:].masked_fill_(mask, 1)
    return seen


def enlarged(low, size):
    """Each new pixel looked up at its place in the small picture."""
    everywhere = torch.eye(2, 3).expand(len(low), 2, 3)
    places = F.affine_grid(everywhere, (*low.shape[:2], *size), align_corners=False)
    return F.grid_sample(low, places, mode="bicubic", padding_mode="border", align_corners=False)


def caption_vector(tokens, mask):
    """Caption by caption, of the words that are there."""
    return torch.stack([words[real].mean(dim=0) for words, real in zip(tokens, mask, strict=True)])


def word_numbers(captions, vocabulary):
    """Looked for in the vocabulary each time."""
    places = list(vocabulary)
    return [list(map(lambda word: 1 + places.index(word), text.split())) for text in captions]


# --- Lesson 12, classifier guidance ---


def classifier_gradient(classifier, labels):
    """The loss, turned round, picture by picture."""

    def gradient(x_t, t):
        found = []
        with torch.enable_grad():
            for row, label in zip(x_t.clone(), labels, strict=True):
                row = row[None].requires_grad_()
                loss = F.cross_entropy(classifier(row, t), label[None])
                found.append(torch.autograd.grad(-loss, row)[0])
        return torch.cat(found)

    return gradient


def guide_by_classifier(denoise, gradient, schedule, scale):
    """By way of the score: to it the gradient is added, and it is turned into a noise again."""

    def guided(x_t, t):
        spread = math.sqrt(1 - schedule.alpha_bars[t].item())
        score = -denoise(x_t, t) / spread + scale * gradient(x_t, t)
        return -spread * score

    return guided


def guided_step(schedule, x_t, t, s, noise, gradient, scale):
    """With the posterior written out, as a product of two Gaussians."""
    here, there = schedule.alpha_bars[t].item(), schedule.alpha_bars[s].item()
    guess = (x_t - math.sqrt(1 - here) * noise) / math.sqrt(here)
    guess = guess.clip(-1, 1)
    kept = here / there
    variance = (1 - there) * (1 - kept) / (1 - here)
    mean = math.sqrt(there) * (1 - kept) * guess + math.sqrt(kept) * (1 - there) * x_t
    return mean / (1 - here) + variance * (scale * gradient), torch.tensor(variance)


def implicit_gradient(schedule, null, told, t):
    """The score of what was told, less that of everything."""
    spread = (1 - schedule.alpha_bars[t]).sqrt().to(null.dtype)
    return torch.sub(-told / spread, -null / spread)


# --- Lesson 14, a cascade with a frozen language model ---


def dynamic_threshold(x_0, percentile):
    """Sorted by hand, with the value between two ranks."""
    rows = []
    for x in x_0:
        ranked = x.abs().flatten().sort().values
        place = percentile * (len(ranked) - 1)
        low = min(int(place), len(ranked) - 2)
        s = torch.lerp(ranked[low], ranked[low + 1], place - low)
        rows.append((x / s).clip(-1, 1) if s > 1 else x.clip(-1, 1))
    return torch.stack(rows)


def noisy_condition(low, level, noise):
    """Example by example, into an empty tensor."""
    count, channels, height, width = low.shape
    image = low.new_empty(count, channels + 1, 4 * height, 4 * width)
    for row, picture, share, grain in zip(image, low, level, noise, strict=True):
        row[:channels] = bicubic((picture + share * grain)[None])[0]
        row[channels] = (share - NOISIEST / 2) / (NOISIEST / 2)
    return image


def pooled(tokens, mask):
    """As attention with equal scores, where there is anything to attend to."""
    scores = torch.zeros(mask.shape).masked_fill(~mask, -math.inf)
    weights = scores.softmax(1).nan_to_num(0)
    return torch.bmm(weights[:, None], tokens).squeeze(1)


# --- Lesson 15, two towers ---


def contrastive_loss(z_i, z_t, temperature):
    """Question by question, first of the pictures, then of the texts."""
    loss = 0.0
    for these, those in ((z_i, z_t), (z_t, z_i)):
        for number, one in enumerate(these):
            likeness = torch.cosine_similarity(one[None], those, dim=1) / temperature
            loss = loss + torch.logsumexp(likeness, dim=0) - likeness[number]
    return loss / (2 * len(z_i))


def slerp(a, b, share):
    """By what of b stands across a; where nothing does, there is nowhere to go."""
    along = (a * b).sum(dim=-1, keepdim=True)
    across = b - along * a
    angle = share * torch.atan2(across.norm(dim=-1, keepdim=True), along)
    return torch.cos(angle) * a + torch.sin(angle) * F.normalize(across, dim=-1)


def move_by_text(z_i, z_from, z_to, share):
    """The same, with the way there written out."""
    way = z_to - z_from
    return slerp(way / way.norm(dim=1, keepdim=True), z_i, 1 - share)


def prior_loss(guess, schedule, z_i, condition, t, noise):
    """From the sum of squares, with the noise put on by hand."""
    share = schedule.alpha_bars[t].to(z_i).unsqueeze(1)
    guessed = guess(share**0.5 * z_i + (1 - share) ** 0.5 * noise, t, condition)
    return torch.sum((z_i - guessed) ** 2) / z_i.numel()


def better_of_two(first, second, z_t):
    """By the place of the larger of two numbers."""
    both = torch.stack([first, second])
    place = torch.einsum("kbd,bd->kb", both, z_t).argmax(dim=0)
    return both[place, torch.arange(len(place))]


# --- Lesson 16, guidance since 2022 ---


def in_interval(scale, low, high):
    """Outside first."""

    def at(t):
        if t <= low or high < t:
            return 1
        return scale

    return at


def plus_step(schedule, x_t, t, s, null, told, scale):
    """By two guesses, of which the guided one is a mixture."""
    here, there = schedule.alpha_bars[t].item(), schedule.alpha_bars[s].item()
    guesses = [(x_t - math.sqrt(1 - here) * noise) / math.sqrt(here) for noise in (null, told)]
    guess = ((1 - scale) * guesses[0] + scale * guesses[1]).clip(-1, 1)
    return torch.sqrt(torch.tensor(there)) * guess + math.sqrt(1 - there) * null


def projected(null, told, scale):
    """By unit vectors. What of the push lies along told is what of null does, but for told."""
    unit = F.normalize(told.flatten(1), dim=1)
    rest = (unit * null.flatten(1)).sum(1, keepdim=True) * unit - null.flatten(1)
    return told + (scale - 1) * rest.reshape(told.shape)


def rescaled(null, told, scale, share):
    """Variances of flat rows, and their root."""
    guided = scale * told - (scale - 1) * null
    wide, wanted = (each.flatten(1).var(dim=1).sqrt() for each in (guided, told))
    factor = 1 + share * (wanted / wide - 1)
    return guided * factor.reshape(-1, *[1] * (told.ndim - 1))


# --- Lesson 17, few steps ---


def straight(x_0, s, noise):
    """Example by example."""
    rows = [torch.lerp(x, e, share.item()) for x, e, share in zip(x_0, noise, s, strict=True)]
    return torch.stack(rows), torch.sub(noise, x_0)


def follow(velocity, x_1, steps):
    """Forwards through a list of times."""
    x_s = x_1.clone()
    for number in range(steps):
        t = round(1000 * (steps - number) / steps)
        x_s = torch.add(x_s, velocity(x_s, t), alpha=-1 / steps)
    return x_s


def distilled_target(teacher, x_s, t, condition, scale):
    """Both answers from one batch of twice the size, and weighed the other way round."""
    both = Condition.concatenate([condition, condition.absent()])
    times = torch.as_tensor(t).expand(len(x_s)).repeat(2)
    told, null = teacher(torch.cat([x_s, x_s]), times, both).detach().chunk(2)
    weight = scale.view(-1, *(1 for _ in x_s.shape[1:]))
    return weight * told + (1 - weight) * null


def shortcut_target(velocity, x_s, s, stride):
    """From where the two steps arrive: the way over the stride."""
    wide = stride.reshape(-1, *[1] * (x_s.ndim - 1))
    place, time = x_s, s
    for _ in range(2):
        place = place - wide / 2 * velocity(place, time, stride / 2).detach()
        time = time - stride / 2
    return (x_s - place) / wide


# --- Lesson 18, the bridge to Diffusers ---


def their_clock(alpha_bars, visited):
    """The products taken once more; each time looked up by where it stands in their list."""
    alphas = alpha_bars[1:] / alpha_bars[:-1]
    theirs = list(range(len(alpha_bars) - 1))
    return torch.cumprod(alphas, 0), torch.tensor([theirs[t - 1] for t in visited if t > 0])


def scheduler_config(schedule, clip):
    """Options only where the default is another."""
    options = dict(timestep_spacing="trailing", num_train_timesteps=len(schedule.alphas) - 1)
    options["trained_betas"] = (1 - schedule.alphas[1:]).numpy()
    if clip is None:
        return options | {"clip_sample": False}
    return options | {"clip_sample_range": clip}


def from_diffusers(unet, null):
    """Example by example."""

    def network(x_t, t, condition):
        rows = zip(condition.tokens, condition.present.tolist(), strict=True)
        tokens = torch.stack([row if told else null[0] for row, told in rows])
        return unet(x_t, torch.as_tensor(t) - 1, encoder_hidden_states=tokens, return_dict=False)[0]

    return network


def bytes_a_step(parameters, processes, bytes):
    """Two rounds, sending after sending."""
    part = parameters * bytes / processes
    return sum(part for _ in range(2) for _ in range(processes - 1))


# --- Lesson 13, latent diffusion ---


def sample_latents(mean, log_variance, noise):
    """Row by row, by way of the precision."""
    rows = [
        middle + noise_of_it * torch.exp(-log) ** -0.5
        for middle, log, noise_of_it in zip(mean, log_variance, noise, strict=True)
    ]
    return torch.stack(rows)


def kl_to_standard_normal(mean, log_variance):
    """The KL of two Gaussians with independent numbers, lesson 02's, as PyTorch has it."""
    latents = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    each = torch.distributions.kl_divergence(latents, standard)
    return each.reshape(len(mean), -1).sum(dim=-1)


def latent_spread(latents):
    """The root of the mean square less the square of the mean."""
    numbers = latents.double().flatten()
    return ((numbers**2).mean() - numbers.mean() ** 2).sqrt().item()


def draw_in_latents(denoise, schedule, decode, spread, x_T, steps):
    """A loop that keeps the last state."""
    for step in sampling.ddim(denoise, schedule, x_T, steps=steps, clip=None):
        x_t = step.x_t
    return decode(x_t * spread)


RIGHT_ANSWERS = {
    "lesson_01.add_noise": add_noise,
    "lesson_01.snr": snr,
    "lesson_01.predict_x0": predict_x0,
    "lesson_02.posterior": posterior,
    "lesson_02.noise_loss": noise_loss,
    "lesson_02.score": score,
    "lesson_03.time_embedding": time_embedding,
    "lesson_03.residual_block": residual_block,
    "lesson_03.attention": attention,
    "lesson_03.decode": decode,
    "lesson_04.training_step": training_step,
    "lesson_04.update_average": update_average,
    "lesson_04.ddpm_step": ddpm_step,
    "lesson_04.ddim_step": ddim_step,
    "lesson_04.middle_guess": middle_guess,
    "lesson_05.drop": drop,
    "lesson_05.with_null_image": with_null_image,
    "lesson_05.with_null_token": with_null_token,
    "lesson_06.guide": guide,
    "lesson_06.paper_scale": paper_scale,
    "lesson_06.clip_guess": clip_guess,
    "lesson_07.frechet_distance": frechet_distance,
    "lesson_07.precision_recall": precision_recall,
    "lesson_07.interval_scale": interval_scale,
    "lesson_08.concatenate": concatenate,
    "lesson_08.condition_features": condition_features,
    "lesson_08.back_project": back_project,
    "lesson_09.composite": composite,
    "lesson_09.masked": masked,
    "lesson_09.repaint_step": repaint_step,
    "lesson_10.tokenise": tokenise,
    "lesson_10.cross_attention": cross_attention,
    "lesson_10.held_out": held_out,
    "lesson_11.alpha_bars": alpha_bars,
    "lesson_11.share_at": share_at,
    "lesson_11.add_noise": add_noise_picture_by_picture,
    "lesson_11.step_mean": step_mean,
    "lesson_11.time_features": time_features,
    "lesson_11.residual": residual,
    "lesson_11.as_rows": as_rows,
    "lesson_11.attend": attend,
    "lesson_11.look_at_words": look_at_words,
    "lesson_11.decoder_channels": decoder_channels,
    "lesson_11.enlarge_to": enlarge_to,
    "lesson_11.to_range": to_range,
    "lesson_11.draw_times": draw_times,
    "lesson_11.told": told,
    "lesson_11.hide_labels": hide_labels,
    "lesson_11.train_on": train_on,
    "lesson_11.preview": preview,
    "lesson_11.guided": guided,
    "lesson_11.both_at_once": both_at_once,
    "lesson_11.ddim_step": ddim_step_clipped,
    "lesson_11.ancestral_step": ancestral_step,
    "lesson_11.masked_input": masked_input,
    "lesson_11.enlarged": enlarged,
    "lesson_11.caption_vector": caption_vector,
    "lesson_11.word_numbers": word_numbers,
    "lesson_12.classifier_gradient": classifier_gradient,
    "lesson_12.guide_by_classifier": guide_by_classifier,
    "lesson_12.guided_step": guided_step,
    "lesson_12.implicit_gradient": implicit_gradient,
    "lesson_13.sample_latents": sample_latents,
    "lesson_13.kl_to_standard_normal": kl_to_standard_normal,
    "lesson_13.latent_spread": latent_spread,
    "lesson_13.draw_in_latents": draw_in_latents,
    "lesson_14.dynamic_threshold": dynamic_threshold,
    "lesson_14.noisy_condition": noisy_condition,
    "lesson_14.pooled": pooled,
    "lesson_15.contrastive_loss": contrastive_loss,
    "lesson_15.slerp": slerp,
    "lesson_15.move_by_text": move_by_text,
    "lesson_15.prior_loss": prior_loss,
    "lesson_15.better_of_two": better_of_two,
    "lesson_16.in_interval": in_interval,
    "lesson_16.plus_step": plus_step,
    "lesson_16.projected": projected,
    "lesson_16.rescaled": rescaled,
    "lesson_17.straight": straight,
    "lesson_17.follow": follow,
    "lesson_17.distilled_target": distilled_target,
    "lesson_17.shortcut_target": shortcut_target,
    "lesson_18.their_clock": their_clock,
    "lesson_18.scheduler_config": scheduler_config,
    "lesson_18.from_diffusers": from_diffusers,
    "lesson_18.bytes_a_step": bytes_a_step,
}
