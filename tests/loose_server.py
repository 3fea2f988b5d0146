"""`python -m tests.loose_server annotate|study DATABASE IMAGES RATE`: that app, which all may ask so often a second."""

import json
import sys
from importlib import import_module
from pathlib import Path

from onereward.people.database import Database
from onereward.people.pictures import Pictures
from onereward.web.rates import Rates
from onereward.web.server import bound, serve, url_of


def main(app: str, place: str, images: str, rate: str) -> None:
    create_app = import_module(f"onereward.{app}.app").create_app
    visitors, strangers = (Rates(per_second=float(rate), burst=int(rate)) for _ in range(2))
    with Database(place, create=False) as database, bound("127.0.0.1", 0) as listener:
        served = create_app(database, Pictures(Path(images)), visitors=visitors, strangers=strangers)
        listener.listen()
        print(json.dumps({"url": url_of(listener)}), flush=True)
        serve(served, listener)


if __name__ == "__main__":
    main(*sys.argv[1:])
