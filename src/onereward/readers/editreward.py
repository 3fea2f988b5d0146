"""EditReward-Data (TIGER-Lab/EditReward-Data): two edits of an image by one instruction, compared and rated by experts.

Columns as in the dataset card's `dataset_info`: key, unique_key, pair_index, instruction, source_img,
left_output_image, right_output_image, left_model, right_model, vote_type, metadata_index, left_img_rel, right_img_rel,
and left_ and right_ of overall_score, instruction_following_score and quality_aesthetic_score. The card does not say
what vote_type holds: `leftvote`, `rightvote` and `tie`, and that the higher score is the better one, come from the
usage guide of a sample that somebody else published (AgPerry/EditReward-Data-100). Other words are rejected and listed.

Text alignment is instruction_following_score, aesthetics quality_aesthetic_score, the verdict on the whole vote_type.
The source is the source image, by content.
"""

from onereward.readers.cells import Row, label, text, value
from onereward.readers.layouts import Format, Judged, Layout, Verdict, higher
from onereward.terms import Dimension

VOTES = {"leftvote": (1.0, 0.0), "rightvote": (0.0, 1.0), "tie": (0.0, 0.0)}


def _judged(row: Row) -> Judged:
    return Judged(
        images=(row.get("left_output_image"), row.get("right_output_image")),
        prompt=text(row, "instruction"),
        source_image=value(row, "source_img"),
    )


EDITREWARD = Format(
    name="editreward",
    layouts=(
        Layout(
            columns=("instruction", "source_img", "left_output_image", "right_output_image"),
            verdicts={
                "vote_type": Verdict(columns=("vote_type",), scores=lambda row: label(row, "vote_type", VOTES)),
                "overall_score": higher("left_overall_score", "right_overall_score"),
                "instruction_following_score": higher(
                    "left_instruction_following_score", "right_instruction_following_score"
                ),
                "quality_aesthetic_score": higher("left_quality_aesthetic_score", "right_quality_aesthetic_score"),
            },
            judged=_judged,
        ),
    ),
    dimensions={
        Dimension.TEXT_ALIGNMENT: "instruction_following_score",
        Dimension.AESTHETICS: "quality_aesthetic_score",
    },
    overall="vote_type",
)
