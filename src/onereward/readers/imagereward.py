"""ImageRewardDB (THUDM/ImageRewardDB, zai-org/ImageRewardDB): images made for one prompt, ranked and rated by experts.

Columns as in the dataset's card and its loading script (ImageRewardDB.py); the last form as in data/test.json of
github.com/THUDM/ImageReward:

    one image a row, as in train_1.json and metadata-train.parquet     image_path, prompt_id, prompt, rank, ratings
    the same with the images themselves, the script's `8k`             image, prompt_id, prompt, rank, ratings
    one prompt a row, the script's `8k_group`                          the same, as lists
    one pair a row, the script's `8k_pair`                             img_better, img_worse, prompt_id, prompt
    one prompt a row                                                   generations, ranking, id, prompt

The ratings are overall_rating, image_text_alignment_rating and fidelity_rating, the higher the better; rank 1 is the
best, and ranks may be equal. Text alignment is image_text_alignment_rating, structure fidelity_rating, aesthetics and
the verdict on the whole rank; the last two forms have ranks alone. The source is the prompt's id.
"""

from collections.abc import Callable

from onereward.readers.cells import Row, items, text
from onereward.readers.layouts import Format, Group, Judged, Layout, first_wins, higher, lower
from onereward.terms import Dimension


def _judged(*images: str, prompt_id: str = "prompt_id") -> Callable[[Row], Judged]:
    """How a row is read whose images lie in these columns; its one prompt is the source and the triplet."""

    def judged(row: Row) -> Judged:
        name = f"imagereward-{text(row, prompt_id)}"
        cells = tuple(cell for column in images for cell in items(row, column))
        return Judged(id=name, source=name, prompt=text(row, "prompt"), images=cells)

    return judged


def _ranked(image: str) -> Layout:
    return Layout(
        columns=(image, "prompt_id", "prompt"),
        verdicts={
            "rank": lower("rank"),
            "overall_rating": higher("overall_rating"),
            "image_text_alignment_rating": higher("image_text_alignment_rating"),
            "fidelity_rating": higher("fidelity_rating"),
        },
        judged=_judged(image),
        group=Group(columns=("prompt_id",), of=lambda row: text(row, "prompt_id")),
    )


IMAGEREWARD = Format(
    name="imagereward",
    layouts=(
        _ranked("image"),
        _ranked("image_path"),
        Layout(
            columns=("img_better", "img_worse", "prompt_id", "prompt"),
            verdicts={"rank": first_wins()},
            judged=_judged("img_better", "img_worse"),
        ),
        Layout(
            columns=("generations", "id", "prompt"),
            verdicts={"rank": lower("ranking")},
            judged=_judged("generations", prompt_id="id"),
        ),
    ),
    dimensions={
        Dimension.TEXT_ALIGNMENT: "image_text_alignment_rating",
        Dimension.STRUCTURE: "fidelity_rating",
        Dimension.AESTHETICS: "rank",
    },
    overall="rank",
)
