"""Draw the sheets in this folder from the icon sets that npm carries.

    npm pack @iconify-json/noto @iconify-json/noto-v1 @iconify-json/twemoji \\
        @iconify-json/fluent-emoji-flat @iconify-json/emojione emojilib
    pip install resvg-py
    python data/emoji/make.py FOLDER    # which holds the six .tgz files

One sheet a hand, its pictures row by row in the order of the hand's names in words.json. Left out
are flags, keycaps, signs, and pairs of people with skin tones. words.json also holds what each
emoji is called ("characters") and further words for each name ("keywords").
"""

import json
import re
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import resvg_py
from PIL import Image

SETS = {  # each hand's icon set
    "noto": "noto",
    "blob": "noto-v1",
    "twemoji": "twemoji",
    "fluent": "fluent-emoji-flat",
    "emojione": "emojione",
}
SIZE = 64  # pixels
COLUMNS = 100  # pictures in a row of a sheet
LETTER = re.compile("[a-z0-9]")  # some of the keywords are smileys, such as :'(
SHAPE = "\ufe0f"  # asks for a picture in place of a letter; not everybody writes it
LEFT_OUT = {"Symbols", "Flags", "Modifiers"}
TONE = re.compile(r"-(medium-light|medium-dark|light|medium|dark)(-skin-tone)?(?=-|$)")


def read(folder: Path, package: str, *files: str) -> list[dict]:
    """JSON files of a package."""
    (path,) = folder.glob(f"{package}-[0-9]*.tgz")
    with tarfile.open(path) as archive:
        return [json.load(archive.extractfile(f"package/{file}.json")) for file in files]


def read_set(folder: Path, name: str) -> tuple[dict, dict]:
    """An icon set and the category of each of its names."""
    icons, metadata = read(folder, f"iconify-json-{name}", "icons", "metadata")
    return icons, {n: c for c, names in metadata["categories"].items() for n in names}


def other_words(folder: Path, names: set) -> tuple[dict, dict]:
    """The name of each emoji, and the keywords of each name."""
    (codes,) = read(folder, "iconify-json-noto", "chars")
    (keywords,) = read(folder, "emojilib", "dist/emoji-en-US")
    characters = {
        "".join(chr(int(code, 16)) for code in codes_of.split("-")).replace(SHAPE, ""): name
        for codes_of, name in codes.items()
        if name in names
    }
    plain = {text.replace(SHAPE, ""): words for text, words in keywords.items()}
    found = {}
    for character, name in characters.items():
        words = [word.replace("_", " ") for word in plain.get(character, [])]
        if words:
            found[name] = [
                word for word in words if word != name.replace("-", " ") and LETTER.search(word)
            ]
    return characters, found


def one_spelling(name: str, aliases: dict, known: set) -> str:
    """The name as the set `noto` has it: Fluent writes man-dark for man-dark-skin-tone, and the
    older sets hold names that have changed since."""
    found = TONE.search(name)
    if found and not found[2] and TONE.sub("", name) in known:
        name = TONE.sub(r"-\1-skin-tone", name)
    name = name.replace("-haired", "-hair")
    return name if name in known else aliases.get(name, {}).get("parent", name)


def draw(icon: dict, icons: dict) -> Image.Image:
    """An icon on white."""
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    svg = f'<svg {space} viewBox="{box}">{icon["body"]}</svg>'
    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE)
    drawn = Image.open(BytesIO(bytes(png))).convert("RGBA")
    picture = Image.new("RGBA", (SIZE, SIZE), "white")
    picture.alpha_composite(drawn, ((SIZE - drawn.width) // 2, (SIZE - drawn.height) // 2))
    return picture.convert("RGB")


def main(folder: Path) -> None:
    sets = {hand: read_set(folder, name) for hand, name in SETS.items()}
    noto, noto_kinds = sets["noto"]
    known = set(noto["icons"])
    names = {}
    for hand, (icons, kinds) in sets.items():
        pictures = {}
        for name, icon in sorted(icons["icons"].items()):
            spelt = one_spelling(name, noto["aliases"], known)
            kind = noto_kinds.get(spelt, kinds.get(name))  # EmojiOne calls a heart a sign
            kept = kind is not None and kind not in LEFT_OUT and not icon.get("hidden")
            if kept and len(TONE.findall(spelt)) < 2 and spelt not in pictures:
                pictures[spelt] = draw(icon, icons)
        names[hand] = sorted(pictures)
        rows = -(-len(pictures) // COLUMNS)
        sheet = Image.new("RGB", (COLUMNS * SIZE, rows * SIZE), "white")
        for number, name in enumerate(names[hand]):
            row, column = divmod(number, COLUMNS)
            sheet.paste(pictures[name], (column * SIZE, row * SIZE))
        sheet.save(Path(__file__).with_name(f"{hand}.webp"), lossless=True, quality=100, method=6)
        print(hand, len(pictures))
    characters, keywords = other_words(folder, {n for known in names.values() for n in known})
    words = {"hands": names, "characters": characters, "keywords": keywords}
    text = json.dumps(words, indent=0, ensure_ascii=False) + "\n"
    Path(__file__).with_name("words.json").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
