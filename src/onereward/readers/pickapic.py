"""Pick-a-Pic (yuvalkirstain/pickapic_v1, pickapic_v2): two images made for one prompt, one of them picked by its user.

Columns as in the dataset cards' `dataset_info`: are_different, best_image_uid, caption, created_at, has_label,
image_{0,1}_uid, image_{0,1}_url, jpg_{0,1} (the files' bytes), label_{0,1} (floats), model_{0,1}, ranking_id, user_id,
num_example_per_prompt. The labels of a pair are 1 and 0, or 0.5 each where neither was picked; rows whose has_label is
false are left out. The sets called *_no_images hold URLs alone and cannot be read. Aesthetics and the verdict on the
whole are the label, whatever the users picked by. The source is the caption.
"""

from onereward.readers.cells import Reason, Rejected, Row, optional_text, short_hash, text
from onereward.readers.layouts import Format, Judged, Layout, higher
from onereward.terms import Dimension

_NO = ("false", "0", "0.0")


def _judged(row: Row) -> Judged:
    if optional_text(row, "has_label", "true").lower() in _NO:
        raise Rejected(Reason.UNLABELLED, "has_label is false")
    caption = text(row, "caption")
    name, user = f"pickapic-{short_hash(caption)}", optional_text(row, "user_id")
    return Judged(
        id=name,
        source=name,
        prompt=caption,
        images=(row.get("jpg_0"), row.get("jpg_1")),
        voter=user and f"pickapic-{user}",
    )


PICKAPIC = Format(
    name="pickapic",
    layouts=(
        Layout(
            columns=("caption", "jpg_0", "jpg_1"),
            verdicts={"label": higher("label_0", "label_1")},
            judged=_judged,
            optional=("has_label", "user_id"),
        ),
    ),
    dimensions={Dimension.AESTHETICS: "label"},
    overall="label",
)
