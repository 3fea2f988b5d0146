"""`python -m tests.annotate.loose_server DATABASE IMAGES RATE`: the app where everybody may ask that often a second."""

import json
import sys
from pathlib import Path

from onereward.annotate.app import create_app
from onereward.people.database import Database
from onereward.people.pictures import Pictures
from onereward.web.rates import Rates
from onereward.web.server import bound, serve, url_of


def main(place: str, images: str, rate: str) -> None:
    visitors, strangers = (Rates(per_second=float(rate), burst=int(rate)) for _ in range(2))
    with Database(place, create=False) as database, bound("127.0.0.1", 0) as listener:
        app = create_app(database, Pictures(Path(images)), visitors=visitors, strangers=strangers)
        listener.listen()
        print(json.dumps({"url": url_of(listener)}), flush=True)
        serve(app, listener)


if __name__ == "__main__":
    main(*sys.argv[1:])
