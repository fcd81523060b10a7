"""How each shipped checkpoint is measured: what `python -m cfd_course evaluate NAME` runs.

A measurement is a module with parts(data), each a name and a function that measures it, so that it
can be stopped between two parts and go on later; and summary(found), of what they found.
"""

from . import (
    digit_classifier,
    digit_inpainting,
    digits,
    digits_weak,
    emoji,
    emoji_enlarger,
    emoji_latents,
    emoji_mender,
    few_steps,
    inpainting,
    super_resolution,
    text_to_image,
    two_towers,
)

# name: (its parts, its summary)
EVALUATIONS = {
    "digits": (digits.parts, digits.summary),
    "digits-weak": (digits_weak.parts, digits_weak.summary),
    "digits-shortcut": (few_steps.parts, few_steps.summary),
    "digit-classifier": (digit_classifier.parts, digit_classifier.summary),
    "text-to-image": (text_to_image.parts, text_to_image.summary),
    "emoji": (emoji.parts, emoji.summary),
    "emoji-enlarger": (emoji_enlarger.parts, emoji_enlarger.summary),
    "emoji-latents": (emoji_latents.parts, emoji_latents.summary),
    "emoji-decoder": (two_towers.parts, two_towers.summary),
    "emoji-mender": (emoji_mender.parts, emoji_mender.summary),
    "super-resolution": (super_resolution.parts, super_resolution.summary),
    "inpainting": (inpainting.parts, inpainting.summary),
    "digit-inpainting": (digit_inpainting.parts, digit_inpainting.summary),
}
