"""Can a participant tell a system? By names, files, headers, metadata, attributes, places, sizes, or by time?"""

import gc
import http.client
import io
import json
import math
import time
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image
from scipy.stats import rankdata

from onereward.people.persons import Role
from onereward.people.tables import STUDY_TRIALS
from tests.app_process import enter
from tests.study.running import SECRETS, SYSTEMS, Made, answer_to, client_of, serving, study, to_block

ROUTES = ("/", "/enter", "/join", "/study", "/left", "/openapi.json", "/healthz", "/api/results", "/status", "/nothing")
LEAST, MOST = 0.47, 0.53
SEEN_SECONDS = 0.002  # by which one system's pictures being later would be seen
FORMS = [pytest.param(600, id="short"), pytest.param(6000, id="long", marks=pytest.mark.soak)]


def participant(made: Made, name: str) -> tuple[Any, dict[str, Any]]:
    client = client_of(made)
    enter(client, made.link_of(name)[1])
    return client, to_block(client)


def test_no_route_names_a_system(tmp_path: Path) -> None:
    """Every answer of every route on a participant's way: bodies, headers and addresses."""
    with study(tmp_path, items=4, comparisons=(SYSTEMS,), check_every=3, answers=1) as made:
        systems, heads = made.systems(), set[tuple[str, ...]]()
        for name in ("Ann", "Bob"):
            client, place = participant(made, name)
            said = [client.get(path) for path in ROUTES]
            while place["trials"]:
                trial = place["trials"][0]
                said += [client.get("/study"), client.get("/api/place")]
                for picture in (trial["source"], trial["mask"], *trial["pictures"]):
                    shown = client.get(f"/api/images/{picture}")
                    assert shown.status_code == 200
                    said.append(shown)
                    named = {key: value for key, value in shown.headers.items() if key != "content-length"}
                    heads.add(tuple(f"{key}: {value}" for key, value in named.items()))
                answered = client.post("/api/answers", json=answer_to(trial))
                said.append(answered)
                place = answered.json()["place"]
            for answer in said:
                text = (answer.content + str(answer.headers).encode() + str(answer.url).encode()).lower()
                assert not [word for word in SECRETS if word.encode() in text], answer.url
        assert len(heads) == 1  # one set of headers for all pictures
        assert set(systems.values()) == {*SYSTEMS, None}


def test_files_differ_in_their_pixels_only(tmp_path: Path) -> None:
    """Inputs of other sizes, formats and metadata become files of one kind, size, length and time, by random names."""
    with study(tmp_path, items=4) as made:
        lengths = defaultdict(set)
        trials = [trial for name in ("Ann", "Bob") for trial in all_trials(made, name)]
        for trial in trials:
            for picture in trial["pictures"]:
                path = made.pictures.path(picture)
                data = path.read_bytes()
                lengths[trial["source"]].add(len(data))
                with Image.open(io.BytesIO(data)) as image:
                    image.load()
                    seen = image.format, image.mode, image.size, image.info, dict(image.getexif())
                assert seen == ("PNG", "RGB", (trial["width"], trial["height"]), {}, {})
                assert path.stat().st_mtime == 0
        assert len(lengths) == 4 and all(len(found) == 1 for found in lengths.values())
        names = [path.stem for path in made.images.rglob("*.png")]
        assert all(len(name) == 22 for name in names) and len(set(names)) == len(names)


def all_trials(made: Made, name: str) -> list[dict[str, Any]]:
    client, place = participant(made, name)
    trials = []
    while place["trials"]:
        trials.append(place["trials"][0])
        place = client.post("/api/answers", json=answer_to(trials[-1])).json()["place"]
    return trials


def test_no_place_is_a_systems_own(tmp_path: Path) -> None:
    """Over all blocks each system stands equally often at each position and on each side, in ids' order by chance."""
    with study(tmp_path, items=6, answers=4, comparisons=(SYSTEMS,)) as made:
        systems = made.systems()
        at, sides = defaultdict(list), []
        for number in range(8):
            for position, trial in enumerate(all_trials(made, f"P{number}")):
                names = [systems[picture] for picture in trial["pictures"]]
                if len(names) == 1:
                    at[position].append(names[0])
                else:
                    sides.append(names[0])
                assert trial.keys() == {"id", "practice", "task", "instruction", "prompt", "note", "source", "mask",
                                        "width", "height", "pictures", "questions"}  # fmt: skip
    assert len(at) == 12 and all(found.count(name) == 2 for found in at.values() for name in SYSTEMS)
    assert [sides.count(name) for name in SYSTEMS] == [12, 12]


def area(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """The chance that one of the first is above one of the second (AUC), and its standard error if they are alike."""
    ranks = rankdata(np.concatenate([first, second]))[: len(first)].sum()
    n, m = len(first), len(second)
    return float((ranks - n * (n + 1) / 2) / (n * m)), math.sqrt((n + m + 1) / (12 * n * m))


@pytest.mark.parametrize("requests", FORMS)
def test_time_to_the_first_byte_tells_no_system(tmp_path: Path, requests: int) -> None:
    """Shuffled requests on one kept connection; the short form allows two standard errors of so few requests more."""
    with study(tmp_path, items=8, size=(400, 300), answers=1, check_every=4) as made, serving(made) as url:
        systems = made.systems()
        _, token = made.link_of("Ann")
        with httpx.Client(base_url=url) as session:
            enter(session, token)
            place = to_block(session)
            while place["trials"]:
                place = session.post("/api/answers", json=answer_to(place["trials"][0])).json()["place"]
            shown = pictures_of(made)
            cookie = f"onereward={session.cookies['onereward']}"
        draw, times = Random(1), defaultdict(list)
        per = requests // len(SYSTEMS)
        order = [picture for name in SYSTEMS for picture in spread([p for p in shown if systems[p] == name], per)]
        draw.shuffle(order)
        connection = http.client.HTTPConnection(urlsplit(url).netloc)
        for _ in range(20):
            seconds_to_first_byte(connection, shown[0], cookie)  # warm
        gc.disable()
        for picture in order:
            times[systems[picture]].append(seconds_to_first_byte(connection, picture, cookie))
        gc.enable()
        connection.close()
    for first, second in combinations(SYSTEMS, 2):
        found, error = area(np.array(times[first]), np.array(times[second]))
        slack = 2 * error if requests < 2000 else 0
        print(f"{first} against {second}: AUC {found:.3f} over {len(order)} requests (standard error {error:.3f})")
        assert LEAST - slack <= found <= MOST + slack
        assert area(np.array(times[first]) + SEEN_SECONDS, np.array(times[second]))[0] > MOST + slack


def pictures_of(made: Made) -> list[str]:
    """Outputs that were shown to anybody."""
    with made.database.reading() as connection:
        shown = connection.execute(sa.select(STUDY_TRIALS.c.shown)).scalars()
        return sorted({picture for row in shown for picture in json.loads(row)})


def spread(pictures: list[str], count: int) -> list[str]:
    return [pictures[at % len(pictures)] for at in range(count)]


def seconds_to_first_byte(connection: http.client.HTTPConnection, picture: str, cookie: str) -> float:
    start = time.perf_counter()
    connection.request("GET", f"/api/images/{picture}", headers={"Cookie": cookie})
    answer = connection.getresponse()  # returns when the status line is there
    found = time.perf_counter() - start
    assert answer.status == 200
    answer.read()
    return found


def test_what_an_admin_may_ask_a_participant_may_not(tmp_path: Path) -> None:
    with study(tmp_path, items=2) as made:
        client, _ = participant(made, "Ann")
        admin = client_of(made)
        enter(admin, made.link_of("Root", Role.ADMIN)[1])
        for path in ("/api/results", "/status"):
            assert client.get(path).status_code == 403
        assert not [word for word in SYSTEMS if word in admin.get("/status").text]
