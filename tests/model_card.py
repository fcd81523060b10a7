"""Put the tables of the model card (data/checkpoints/README.md) in line with data/results:

    python -m tests.model_card

Each table stands between <!-- NAME --> and <!-- end -->; a test compares them.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CARD = ROOT / "data" / "checkpoints" / "README.md"


def percent(row: dict) -> str:
    """A share with its interval."""
    low, high = row["interval"]
    return f"{row['right'] / row['of']:.1%} ({low:.1%} to {high:.1%})"


def middle(value: dict, digits: int = 2) -> str:
    """A mean with its interval."""
    low, high = value["interval"]
    return f"{value['mean']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(head: list[str], rows: list[list]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def digits(found: dict) -> str:
    """Of the digits."""
    keys = ("frechet_distance", "precision", "recall", "spread", "nearest_training_digit")
    rows = [[row["scale"], percent(row), *(row[key] for key in keys)] for row in found["rows"]]
    real = found["real"]
    rows.append(
        ["real digits", percent(real["judge"]), real["frechet_distance"], "", "", 1]
        + [real["nearest_training_digit"]]
    )
    head = ["scale", "right (95% interval)", "Fréchet distance", "precision", "recall"]
    return table([*head, "spread within a digit", "nearest training digit"], rows)


GUIDED = ["guidance", "scale", "right (95% interval)", "Fréchet distance", "precision", "recall"]


def guided(row: dict) -> list:
    """What GUIDED names, of one way to guide digits."""
    return [row["method"], row["scale"], percent(row)] + [
        "{:.2f} ({:.2f} to {:.2f})".format(row[key]["value"], *row[key]["interval"])
        for key in ("frechet_distance", "precision", "recall")
    ]


def digit_classifier(found: dict) -> str:
    """Of the digits that it steered."""
    rows = [[*guided(row), row["processor_seconds_for_100"]] for row in found["rows"]]
    return table([*GUIDED, "processor seconds for 100"], rows)


def digits_weak(found: dict) -> str:
    """Of the digits that six methods drew."""
    return table(GUIDED, [guided(row) for row in found["rows"]])


def emoji_latents(found: dict) -> str:
    """Of faces by way of latents, and of the speed in latents and in pixels."""
    rows = []
    for key in ("real", "reconstructed", "drawn in latents", "drawn in pixels"):
        distance = found[key]["frechet_distance"]
        low, high = distance["interval"]
        rows.append([key, f"{distance['value']:.2f} ({low:.2f} to {high:.2f})", "", ""])
    for key in ("emoji-latents", "emoji-pixels"):
        rows.append([f"speed of {key}", "", found[key]["pictures_a_processor_second"]])
        rows[-1].append(found[key]["processor_seconds_a_training_step"])
    head = ["faces", "Fréchet distance", "pictures a processor second"]
    return table([*head, "processor seconds a training step"], rows)


def emoji_decoder(found: dict) -> str:
    """Of retrieval, and of emoji drawn by the same U-Net that is told three things."""
    rows = []
    for split, said in (("pairs", "names seen in other hands"), ("names", "names never seen")):
        one = found["retrieval"][split]
        rows.append([said, *map(percent, (one["among_all"], one["in_first_five"]))])
    head = ["pictures of", "nearest of 1,534 names", "among the nearest five"]
    retrieval = table(head, rows)
    rows = []
    for row in found["rows"]:
        low, high = row["spread"]["interval"]
        variance = f"{row['spread']['value']:.1f} ({low:.1f} to {high:.1f})"
        rows.append([row["way"], row["scale"], percent(row), variance])
    head = ["told", "scale", "right (95% interval)", "variance within a name"]
    return f"{retrieval}\n\n{table(head, rows)}"


def digits_shortcut(found: dict) -> str:
    """Of the digits, for each method and number of calls."""
    rows = []
    for row in found["rows"]:
        distance = row["frechet_distance"]
        low, high = distance["interval"]
        rows.append([row["method"], row["calls"], percent(row)])
        rows[-1].append(f"{distance['value']:.2f} ({low:.2f} to {high:.2f})")
        rows[-1].append(row["processor_seconds_for_16"])
    head = ["method", "calls", "right (95% interval)", "Fréchet distance"]
    return table([*head, "processor seconds for 16"], rows)


def text_to_image(found: dict) -> str:
    """Of the captions."""
    bindings = {row["scale"]: percent(row) for row in found["bindings"]}
    rows = []
    for row in found["rows"]:
        parts = (f"{row[key] / row['of']:.0%}" for key in ("colour", "shape", "size", "relation"))
        rows.append([row["scale"], percent(row), *parts, bindings.get(row["scale"], "")])
    head = ["scale", "all right, held-out pairs", "colours", "shapes", "sizes", "relation"]
    return table([*head, "all right, held-out bindings"], rows)


def super_resolution(found: dict) -> str:
    """Of the enlarged photos."""
    head = ["what", "photos", "one sample, dB", "mean of 8 above bicubic, dB"]
    head += ["posterior mean above bicubic, dB", "spread / error", "power / real"]
    head += ["block correlation", "from the input, /255"]
    rows = [
        [row["name"], row["photos"], middle(row["single"]), middle(row["gain_of_mean"])]
        + [middle(row["gain_of_posterior_mean"]), row["spread_over_error"], row["power_over_real"]]
        + [row["block_correlation"], row["from_input"]]
        for row in found["rows"]
    ]
    return table(head, rows)


def inpainting(found: dict) -> str:
    """Of the filled photos."""
    head = ["scale", "photos", "mean of 8, dB", "biharmonic, dB", "gain, dB"]
    head += ["gain of the pooled error, dB", "one sample, dB", "spread / error", "power / real"]
    head += ["border step / real"]
    rows = [
        [row["scale"], row["photos"], middle(row["mean"]), middle(row["biharmonic"])]
        + [middle(row["gain_of_mean"]), middle(row["gain_of_pooled_error"])]
        + [middle(row["single"]), row["spread_over_error"], row["power_over_real"]]
        + [row["step_over_real"]]
        for row in found["rows"]
    ]
    return table(head, rows)


def digit_inpainting(found: dict) -> str:
    """Of the filled digits."""
    rows = [["digits as they are", "", percent(found["untouched"]), ""]]
    for row in found["rows"]:
        better = row.get("first_is_better_by")
        rows.append([row["name"], row["calls"], percent(row), middle(better) if better else ""])
    head = ["method", "network calls", "recognised", "digits of 100 that the first is better by"]
    return table(head, rows)


def emoji(found: dict) -> str:
    """Of the drawn emoji."""
    rows = [
        [pairs["scale"], percent(pairs), f"{pairs['hands'] / pairs['of']:.0%}", percent(names)]
        + [percent(family), percent(phrases), pairs["nearest"]]
        for pairs, names, family, phrases in zip(
            *(found[key] for key in ("pairs", "names", "family", "phrases")), strict=True
        )
    ]
    real = found["real"]
    hands = f"{real['pairs']['hands'] / real['pairs']['of']:.0%}"
    rows.append(["real ones", percent(real["pairs"]), hands, percent(real["names"])])
    rows[-1] += [percent(real["family"]), "", ""]
    head = ["scale", "held-out pairs of name and hand", "the hand", "held-out names"]
    return table([*head, "people in skin tones", "own words", "nearest training picture"], rows)


def emoji_enlarger(found: dict) -> str:
    """Of the enlarged emoji."""
    rows = [["bicubic", middle(found["bicubic"]), "", ""]]
    for row in found["rows"]:
        rows.append([row["name"], *(middle(row[k]) for k in ("one", "gain_of_one"))])
        rows[-1].append(middle(row["gain_of_mean"]))
    head = ["route", "one sample, dB", "above bicubic, dB", "mean of 8 above bicubic, dB"]
    return table(head, rows)


def emoji_mender(found: dict) -> str:
    """Of the mended emoji."""
    rows = [["as they are", "", "", percent(found["whole"])]]
    for row in found["rows"]:
        gains = [middle(row[k]) if k in row else "" for k in ("gain_of_one", "gain_of_mean")]
        rows.append([row["name"], *gains, percent(row)])
    rows.append(["faces, other words", "", "", percent(found["other_words"])])
    head = ["filled", "one sample above biharmonic, dB", "mean of 8 above biharmonic, dB"]
    return table([*head, "named by the judge"], rows)


TABLES = {
    "emoji": emoji,
    "emoji-enlarger": emoji_enlarger,
    "emoji-latents": emoji_latents,
    "emoji-decoder": emoji_decoder,
    "emoji-mender": emoji_mender,
    "digits": digits,
    "digit-classifier": digit_classifier,
    "digits-weak": digits_weak,
    "digits-shortcut": digits_shortcut,
    "text-to-image": text_to_image,
    "super-resolution": super_resolution,
    "inpainting": inpainting,
    "digit-inpainting": digit_inpainting,
}


def renewed(card: str) -> str:
    """The card with the tables that data/results gives."""

    def renew(match: re.Match) -> str:
        found = json.loads((ROOT / "data" / "results" / f"{match[1]}.json").read_text())
        return f"<!-- {match[1]} -->\n{TABLES[match[1]](found)}\n<!-- end -->"

    return re.sub(r"<!-- ([\w-]+) -->\n.*?<!-- end -->", renew, card, flags=re.DOTALL)


if __name__ == "__main__":
    CARD.write_text(renewed(CARD.read_text()))
