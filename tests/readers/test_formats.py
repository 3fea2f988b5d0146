"""Each public schema in a small file written by hand from its documentation, which the format's module names."""

import json
from pathlib import Path
from typing import Any

import pytest

from onereward.readers.formats import FORMATS
from onereward.readers.inputs import ImportConfig
from onereward.readers.pairs import Pairing
from onereward.terms import Dimension, Preference, Task, VoterKind
from tests.readers.making import held, imported, png, write_images, write_rows

TEXT, STRUCTURE, AESTHETICS = Dimension.TEXT_ALIGNMENT, Dimension.STRUCTURE, Dimension.AESTHETICS
A, B, C, D = (png(level) for level in (10, 20, 30, 40))


def won(preferences: list[Preference], dimension: Dimension) -> list[tuple[bytes, bytes]]:
    return [(row.winner, row.loser) for row in preferences if row.dimension is dimension]


def editreward_row(number: int, vote: str = "leftvote", **changes: Any) -> dict[str, Any]:
    """A row with every column of the dataset card."""
    return {
        "key": f"k{number}",
        "unique_key": f"k{number}_0",
        "pair_index": 0,
        "instruction": f"Make the sandwich a hot dog, {number}.",
        "source_img": held(png(number, 1), "source.png"),
        "left_output_image": held(png(number, 2)),
        "right_output_image": held(png(number, 3)),
        "left_model": "ovis_u1",
        "right_model": "qwen_edit",
        "left_overall_score": 6.0,
        "left_instruction_following_score": 4.0,
        "left_quality_aesthetic_score": 2.0,
        "right_overall_score": 5.0,
        "right_instruction_following_score": 2.0,
        "right_quality_aesthetic_score": 3.0,
        "vote_type": vote,
        "metadata_index": number,
        "left_img_rel": "left.png",
        "right_img_rel": "right.png",
        **changes,
    }


def test_editreward(tmp_path: Path) -> None:
    same_source = editreward_row(0, left_output_image=held(png(0, 4)))
    tied = editreward_row(1, left_instruction_following_score=2.0)
    path = write_rows(tmp_path / "train-0.parquet", [editreward_row(0), same_source, tied])
    preferences, checked = imported(path, tmp_path / "out", ImportConfig(format="editreward"))
    assert won(preferences, TEXT) == [(png(0, 2), png(0, 3)), (png(0, 4), png(0, 3))]
    assert won(preferences, AESTHETICS) == [(png(0, 3), png(0, 2)), (png(0, 3), png(0, 4)), (png(1, 3), png(1, 2))]
    assert (checked.ties, checked.rows, checked.corrupt) == (1, 3, 0)
    first, *_, last = preferences
    assert (first.task, first.prompt) == (Task.FILL, "Make the sandwich a hot dog, 0.")
    assert (first.kind, first.voter, first.weight) == (VoterKind.PERSON, "editreward", 1.0)
    assert len({row.source for row in preferences[:4]}) == 1 and last.source != first.source
    assert len({row.triplet_id for row in preferences[:4]}) == 1 and last.triplet_id != first.triplet_id
    # An image has one index in every row of its triplet.
    indices = {
        (data, index)
        for row in preferences[:4]
        for data, index in ((row.winner, row.winner_index), (row.loser, row.loser_index))
    }
    assert len(indices) == len({index for _, index in indices}) == 3


def test_editrewards_vote_is_the_verdict_on_the_whole(tmp_path: Path) -> None:
    rows = [editreward_row(number, vote) for number, vote in enumerate(("leftvote", "rightvote", "tie", "bothbad"))]
    path = write_rows(tmp_path / "train.parquet", rows)
    config = ImportConfig(format="editreward", dimensions={STRUCTURE: None}, ties=True)
    preferences, checked = imported(path, tmp_path / "out", config, max_rejected=0.25)
    assert won(preferences, STRUCTURE) == [(png(n, 2 + (n == 1)), png(n, 3 - (n == 1))) for n in range(3)]
    assert [row.tie for row in preferences] == [False, False, True]
    (line,) = (tmp_path / "out/rejected.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "file": "train.parquet",
        "row": 4,
        "reason": "unknown label",
        "detail": "vote_type is 'bothbad', expected leftvote, rightvote, tie",
    }
    assert checked.corrupt == 1


def imagereward_rows(image: str, cells: list[Any]) -> list[dict[str, Any]]:
    """Rows as in train_1.json: three images of prompt 000864-0061, one of another prompt, one more of the first."""
    ranks, text, fidelity = (2, 1, 1, 5), (3, 7, 5, 1), (4, 4, 2, 6)
    rows = [
        {
            image: cell,
            "prompt_id": "000864-0061",
            "prompt": "painting of a holy woman",
            "classification": "People",
            "image_amount_in_total": 4,
            "rank": ranks[place],
            "overall_rating": 4,
            "image_text_alignment_rating": text[place],
            "fidelity_rating": fidelity[place],
        }
        for place, cell in enumerate(cells)
    ]
    other = {**rows[0], "prompt_id": "000864-0062", "prompt": "a cat"}
    return [*rows[:3], other, rows[3]]


IMAGEREWARD_RANKS = [(B, A), (C, A), (A, D), (B, D), (C, D)]
IMAGEREWARD_TEXT = [(B, A), (C, A), (A, D), (B, C), (B, D), (C, D)]
IMAGEREWARD_FIDELITY = [(A, C), (D, A), (B, C), (D, B), (D, C)]


def check_imagereward(preferences: list[Preference]) -> None:
    assert won(preferences, AESTHETICS) == IMAGEREWARD_RANKS
    assert won(preferences, TEXT) == IMAGEREWARD_TEXT
    assert won(preferences, STRUCTURE) == IMAGEREWARD_FIDELITY
    assert {(row.triplet_id, row.source, row.prompt) for row in preferences} == {
        ("imagereward-000864-0061", "imagereward-000864-0061", "painting of a holy woman")
    }


def test_imagereward_one_image_a_row_by_path(tmp_path: Path) -> None:
    paths = [f"images/train/train_1/{name}.png" for name in "abcd"]
    write_images(tmp_path / "db", dict(zip(paths, (A, B, C, D), strict=True)))
    path = write_rows(tmp_path / "train_1.json", imagereward_rows("image_path", paths))
    preferences, checked = imported(path, tmp_path / "out", ImportConfig(format="imagereward"), images=tmp_path / "db")
    check_imagereward(preferences)
    assert (checked.ties, checked.rows) == (2, 5)


def test_imagereward_one_image_a_row_with_the_image(tmp_path: Path) -> None:
    rows = imagereward_rows("image", [held(image) for image in (A, B, C, D)])
    path = write_rows(tmp_path / "train.parquet", rows, row_group_size=2)
    check_imagereward(imported(path, tmp_path / "out", ImportConfig(format="imagereward"))[0])


def test_imagereward_one_prompt_a_row(tmp_path: Path) -> None:
    rows = [row for row in imagereward_rows("image", [A, B, C, D]) if row["prompt"] != "a cat"]
    columns = ("rank", "overall_rating", "image_text_alignment_rating", "fidelity_rating")
    lists = {name: [row[name] for row in rows] for name in columns}
    grouped = {
        "prompt_id": "000864-0061",
        "prompt": rows[0]["prompt"],
        "classification": "People",
        "image": [held(row["image"]) for row in rows],
        **lists,
    }
    path = write_rows(tmp_path / "group.parquet", [grouped])
    check_imagereward(imported(path, tmp_path / "out", ImportConfig(format="imagereward"))[0])
    config = ImportConfig(format="imagereward", pairing=Pairing.EXTREMES)
    preferences, _ = imported(path, tmp_path / "extremes", config)
    assert won(preferences, AESTHETICS) == [(B, D), (C, D)]
    assert won(preferences, TEXT) == [(B, D)] and won(preferences, STRUCTURE) == [(D, C)]


def test_imagereward_one_pair_a_row(tmp_path: Path) -> None:
    row = {
        "prompt_id": "000864-0061",
        "prompt": "painting of a holy woman",
        "classification": "People",
        "img_better": held(A),
        "img_worse": held(B),
    }
    path = write_rows(tmp_path / "pair.parquet", [row])
    preferences, _ = imported(path, tmp_path / "out", ImportConfig(format="imagereward"))
    assert won(preferences, AESTHETICS) == [(A, B)] and len(preferences) == 1


def test_imagereward_test_json_of_the_repository(tmp_path: Path) -> None:
    generations = [f"part-005658/images/0040/{name}.png" for name in "abcd"]
    write_images(tmp_path, dict(zip(generations, (A, B, C, D), strict=True)))
    row = {"id": "005658-0040", "prompt": "deathly portal", "generations": generations, "ranking": [1, 2, 5, 2]}
    path = write_rows(tmp_path / "test.json", [row])
    preferences, checked = imported(path, tmp_path / "out", ImportConfig(format="imagereward"))
    assert won(preferences, AESTHETICS) == [(A, B), (A, C), (A, D), (B, C), (D, C)] and checked.ties == 1
    assert {row.triplet_id for row in preferences} == {"imagereward-005658-0040"}


def test_hpdv2_train(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"a.png": A, "b.png": B})
    rows = [
        {"human_preference": [0, 1], "prompt": "a dog", "file_path": ["a.png", "b.png"], "user_hash": "u1"},
        {"human_preference": [1, 0], "prompt": "a dog", "file_path": ["a.png", "b.png"]},
        {"human_preference": [1], "prompt": "a dog", "file_path": ["a.png", "b.png"]},
    ]
    path = write_rows(tmp_path / "train.json", rows)
    config = ImportConfig(format="hpdv2")
    preferences, _ = imported(path, tmp_path / "out", config, images=tmp_path / "train", max_rejected=0.5)
    assert won(preferences, AESTHETICS) == [(B, A), (A, B)]
    assert [row.voter for row in preferences] == ["hpdv2-u1", "hpdv2"]
    assert len({(row.source, row.triplet_id) for row in preferences}) == 1 and preferences[0].source
    assert "rank has 1 values for 2 images" in (tmp_path / "out/rejected.jsonl").read_text()


def test_hpdv2_test(tmp_path: Path) -> None:
    write_images(tmp_path / "test", {"a.png": A, "b.png": B, "c.png": C})
    row = {
        "prompt": "a dog",
        "image_path": ["a.png", "b.png", "c.png"],
        "rank": [2, 3, 1],
        "raw_annotations": [{"rank": [2, 3, 1], "user_hash": "u1"}],
    }
    path = write_rows(tmp_path / "test.json", [row])
    preferences, _ = imported(path, tmp_path / "out", ImportConfig(format="hpdv2"), images=tmp_path / "test")
    assert won(preferences, AESTHETICS) == [(A, B), (C, A), (C, B)]


def pickapic_row(number: int, labels: tuple[float, float], **changes: Any) -> dict[str, Any]:
    """A row with every column of the dataset card but created_at."""
    return {
        "are_different": True,
        "best_image_uid": "x",
        "caption": "a fox",
        "has_label": True,
        "image_0_uid": "x",
        "image_0_url": "https://example.org/x.png",
        "image_1_uid": "y",
        "image_1_url": "https://example.org/y.png",
        "jpg_0": png(number, 1),
        "jpg_1": png(number, 2),
        "label_0": labels[0],
        "label_1": labels[1],
        "model_0": "sdxl",
        "model_1": "sd15",
        "ranking_id": number,
        "user_id": 7 + number,
        "num_example_per_prompt": 4,
        "__index_level_0__": number,
        **changes,
    }


def test_pickapic(tmp_path: Path) -> None:
    rows = [
        pickapic_row(0, (1, 0)),
        pickapic_row(1, (0, 1)),
        pickapic_row(2, (0.5, 0.5)),
        pickapic_row(3, (1, 0), has_label=False),
        pickapic_row(4, (1, 0), are_different=False, jpg_1=png(4, 1)),
        pickapic_row(5, (1, 0), caption="a hen"),
    ]
    path = write_rows(tmp_path / "train.parquet", rows)
    preferences, checked = imported(path, tmp_path / "out", ImportConfig(format="pickapic"))
    assert won(preferences, AESTHETICS) == [(png(0, 1), png(0, 2)), (png(1, 2), png(1, 1)), (png(5, 1), png(5, 2))]
    assert [row.voter for row in preferences] == ["pickapic-7", "pickapic-8", "pickapic-12"]
    foxes, hen = preferences[:2], preferences[2]
    assert len({(row.source, row.triplet_id) for row in foxes}) == 1
    assert foxes[0].source != hen.source and foxes[0].triplet_id != hen.triplet_id and hen.prompt == "a hen"
    assert (checked.ties, checked.identical, checked.corrupt, checked.rejected) == (1, 1, 0, {"no label": 1})
    assert not (tmp_path / "out/rejected.jsonl").read_text()
    preferences, checked = imported(path, tmp_path / "ties", ImportConfig(format="pickapic", ties=True))
    assert [row.tie for row in preferences] == [False, False, True, False] and checked.ties == 0


@pytest.mark.parametrize("grouped", [False, True])
def test_prefpaint(tmp_path: Path, grouped: bool) -> None:
    names = [f"ADE_train_00000993_{number}" for number in range(3)]
    write_images(
        tmp_path / "data", {f"inpaint/{name}.png": image for name, image in zip(names, (A, B, C), strict=True)}
    )
    write_images(tmp_path / "data", {"inpaint/ILSVRC_1_0.png": D, "inpaint/ILSVRC_1_1.png": A})
    flat: dict[str, Any] = dict(zip(names, ([0.1, 3], [0.9, 1], [0.4, 2]), strict=True))
    other: dict[str, Any] = {"ILSVRC_1_0": [0.2, 2], "ILSVRC_1_1": [0.7, 2]}
    nested = {"ADE_train_00000993": flat, "ILSVRC_1": other}
    path = tmp_path / "train.json"
    path.write_text(json.dumps(nested if grouped else {**flat, **other}))
    preferences, checked = imported(path, tmp_path / "out", ImportConfig(format="prefpaint"), images=tmp_path / "data")
    assert won(preferences, AESTHETICS) == [(B, A), (C, A), (B, C)] and checked.ties == 1
    assert {(row.source, row.triplet_id, row.prompt) for row in preferences} == {
        ("prefpaint-ADE_train_00000993", "prefpaint-ADE_train_00000993", "")
    }
    config = ImportConfig(format="prefpaint", dimensions={STRUCTURE: "score"}, task=Task.EXTEND)
    preferences, _ = imported(path, tmp_path / "scores", config, images=tmp_path / "data")
    assert won(preferences, STRUCTURE) == [(B, A), (C, A), (B, C), (A, D)]
    assert {row.task for row in preferences} == {Task.EXTEND}


def test_a_table_of_winners_by_its_own_names(tmp_path: Path) -> None:
    write_images(tmp_path / "sets", {"s/one.png": A, "s/two.png": B})
    rows = [
        {"prompt": "Make it an apple.", "path_src": "s/source.png", "path1": "s/one.png", "path2": "s/two.png",
         "tie_case": tie} for tie in (False, True)
    ]  # fmt: skip
    path = write_rows(tmp_path / "train.json", rows)
    columns = {"winner": "path1", "loser": "path2", "source": "path_src", "tie": "tie_case"}
    config = ImportConfig(format="table", columns=columns, ties=True, kind=VoterKind.MODEL)
    preferences, _ = imported(path, tmp_path / "out", config, images=tmp_path / "sets")
    assert won(preferences, AESTHETICS) == [(A, B), (A, B)]
    assert [(row.tie, row.source, row.kind, row.prompt) for row in preferences] == [
        (tie, "s/source.png", VoterKind.MODEL, "Make it an apple.") for tie in (False, True)
    ]
    assert len({row.triplet_id for row in preferences}) == 1


def test_a_table_of_labels_with_its_own_tasks_dimensions_and_weights(tmp_path: Path) -> None:
    write_images(tmp_path, {"a.png": A, "b.png": B})
    pair = {"first": "a.png", "second": "b.png", "prompt": "a red star"}
    rows = [
        {**pair, "label": "1", "task": "extend", "dimension": "structure", "weight": "2.5", "voter": "Ann"},
        {**pair, "label": "second", "task": "remove", "dimension": "removal_quality"},
        {**pair, "label": "0", "dimension": "text_alignment", "triplet_id": "t", "source": "s"},
        {**pair, "label": "0.7"},
        {**pair, "label": "tie"},
        {**pair, "label": "1", "task": "draw"},
        {**pair, "label": "1", "prompt": "", "dimension": "text_alignment"},
        {**pair, "label": "1", "weight": "-1"},
        {**pair, "label": ""},
    ]
    path = write_rows(tmp_path / "table.csv", rows)
    preferences, checked = imported(path, tmp_path / "out", ImportConfig(format="table"), max_rejected=1)
    assert [(row.task, row.dimension, row.winner, row.weight, row.voter) for row in preferences] == [
        (Task.EXTEND, STRUCTURE, A, 2.5, "Ann"),
        (Task.REMOVE, Dimension.REMOVAL_QUALITY, B, 1.0, "table"),
        (Task.FILL, TEXT, B, 1.0, "table"),
    ]
    assert (preferences[2].triplet_id, preferences[2].source) == ("t", "s")
    assert checked.rejected == {"unknown label": 4, "missing value": 1} and checked.ties == 1
    details = [json.loads(line)["detail"] for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert details == [
        "label is '0.7', expected 1, 1.0, first, 0, 0.0, second, 0.5, tie",
        "unknown task 'draw'; the tasks are fill, extend, remove, text",
        "text_alignment, with prompt '', for task fill",
        "weight is -1.0, expected a number above 0",
        "label",
    ]


@pytest.mark.parametrize(("column", "sign"), [("score", 1), ("rank", -1)])
def test_a_table_of_images_in_groups(tmp_path: Path, column: str, sign: int) -> None:
    write_images(tmp_path, {"a.png": A, "b.png": B, "c.png": C})
    votes = [("g1", "a", 1, "Ann"), ("g1", "b", 2, "Ann"), ("g1", "a", 9, "Bob"), ("g2", "c", 5, "Ann"),
             ("g1", "c", 3, "Ann"), ("g1", "b", 8, "Bob")]  # fmt: skip
    rows = [
        {"group": group, "image": f"{name}.png", column: sign * score, "voter": voter}
        for group, name, score, voter in votes
    ]
    path = write_rows(tmp_path / "scores.jsonl", rows)
    preferences, _ = imported(path, tmp_path / "out", ImportConfig(format="table"))
    assert [(row.winner, row.loser, row.voter, row.source) for row in preferences] == [
        (B, A, "Ann", "g1"), (C, A, "Ann", "g1"), (C, B, "Ann", "g1"), (A, B, "Bob", "g1")
    ]  # fmt: skip


def test_a_table_may_hold_its_images_and_the_source(tmp_path: Path) -> None:
    rows = [
        {"winner": held(A), "loser": held(B), "source": held(png(1, 1))},
        {"winner": held(C), "loser": held(B), "source": held(png(1, 1))},
        {"winner": held(C), "loser": held(A), "source": held(png(2, 2))},
    ]
    preferences, _ = imported(write_rows(tmp_path / "t.parquet", rows), tmp_path / "out", ImportConfig(format="table"))
    sources = [row.source for row in preferences]
    assert sources[0] == sources[1] != sources[2] and all(sources)


def test_without_source_and_prompt_the_images_name_the_triplet(tmp_path: Path) -> None:
    rows = [{"winner": held(x), "loser": held(y)} for x, y in ((A, B), (B, A), (A, C))]
    preferences, _ = imported(write_rows(tmp_path / "t.parquet", rows), tmp_path / "out", ImportConfig(format="table"))
    ids = [row.triplet_id for row in preferences]
    assert ids[0] == ids[1] != ids[2] and {row.source for row in preferences} == {""}


@pytest.mark.parametrize("name", FORMATS)
def test_wrong_columns_are_listed_with_the_expected_ones(tmp_path: Path, name: str) -> None:
    path = write_rows(tmp_path / "wrong.csv", [{"apple": 1, "pear": 2}])
    with pytest.raises(ValueError) as caught:
        imported(path, tmp_path / "out", ImportConfig(format=name))
    assert f"wrong.csv has the columns apple, pear; {name} expects " in str(caught.value)
    form = FORMATS[name]
    for layout in form.layouts:
        assert ", ".join(layout.columns) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_one_missing_column_is_named(tmp_path: Path) -> None:
    row = editreward_row(0)
    del row["right_quality_aesthetic_score"]
    path = write_rows(tmp_path / "train.parquet", [row])
    with pytest.raises(ValueError, match=r"\(missing: right_quality_aesthetic_score\).*--map NAME=COLUMN"):
        imported(path, tmp_path / "out", ImportConfig(format="editreward"))
    config = ImportConfig(format="editreward", dimensions={TEXT: "instruction_following_score"})
    assert len(imported(path, tmp_path / "out", config)[0]) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "laion"}, "unknown format 'laion'; the formats are editreward, imagereward"),
        ({"columns": {"jpg": "x"}}, "got --map jpg=x, expected a name of the format pickapic: caption, jpg_0"),
        (
            {"task": Task.REMOVE},
            "task remove is not judged by aesthetics: say with --dimension which of removal_quality",
        ),
        ({"dimensions": {TEXT: "rank"}}, "pickapic has no verdict 'rank'; its verdicts are label"),
    ],
)
def test_a_config_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImportConfig(**{"format": "pickapic", **changes})


def test_a_map_to_a_column_that_is_not_there(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.parquet", [pickapic_row(0, (1, 0))])
    config = ImportConfig(format="pickapic", columns={"jpg_0": "image"})
    with pytest.raises(
        ValueError, match="has no column image, which --map names; it has are_different, best_image_uid"
    ):
        imported(path, tmp_path / "out", config)
