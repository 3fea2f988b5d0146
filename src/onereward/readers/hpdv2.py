"""Human Preference Dataset v2 (ymhao/HPDv2, zhwang/HPDv2): images made for one prompt, chosen from or ranked by people.

Columns as in the dataset's card and the README of github.com/tgxs002/HPSv2:

    train.json, one pair a row     human_preference (1 for the preferred, 0 for the other), prompt, file_path, user_hash
    test.json, one prompt a row    rank (averaged, of the image at the same place; 1 is the best), prompt, image_path

user_hash is in the README alone and may be missing. What the annotators' own rankings in test.json (raw_annotations)
mean is not documented; they are not read. Paths count from the folder train/ or test/ of the unpacked images: name it
with --images. Aesthetics and the verdict on the whole are the choice, or the rank. The source is the prompt.
"""

from collections.abc import Callable

from onereward.readers.cells import Row, items, optional_text, short_hash, text
from onereward.readers.layouts import Format, Judged, Layout, higher, lower
from onereward.terms import Dimension


def _judged(images: str) -> Callable[[Row], Judged]:
    def judged(row: Row) -> Judged:
        prompt = text(row, "prompt")
        name, user = f"hpdv2-{short_hash(prompt)}", optional_text(row, "user_hash")
        return Judged(id=name, source=name, prompt=prompt, images=items(row, images), voter=user and f"hpdv2-{user}")

    return judged


HPDV2 = Format(
    name="hpdv2",
    layouts=(
        Layout(
            columns=("file_path", "prompt"),
            verdicts={"rank": higher("human_preference")},
            judged=_judged("file_path"),
            optional=("user_hash",),
        ),
        Layout(columns=("image_path", "prompt"), verdicts={"rank": lower("rank")}, judged=_judged("image_path")),
    ),
    dimensions={Dimension.AESTHETICS: "rank"},
    overall="rank",
)
