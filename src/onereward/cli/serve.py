"""`onereward serve`: an editor behind an HTTP API, with a queue and, if asked for, a page to try it on."""

import argparse
import json
import os
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from onereward.cli.editor_options import add_execution, add_source, loader_of, recipe_of

if TYPE_CHECKING:
    from onereward.edit.judge import ImageJudge
    from onereward.models.load import Loader
    from onereward.serve.limits import Limits
    from onereward.serve.queue import EditQueue

HELP = "answer edits over HTTP, one after the other"
EXAMPLE = """
onereward serve --editor toy --port 8000
curl -F image=@photo.png -F mask=@mask.png -F task=fill -F prompt="a red star" http://127.0.0.1:8000/v1/edits
curl http://127.0.0.1:8000/v1/edits/ID
curl -o edited.png http://127.0.0.1:8000/v1/edits/ID/image
"""

_TOKEN_VARIABLE = "ONEREWARD_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Editor, address, token, limits."""
    parser.add_argument("--editor", required=True, metavar="NAME", help="toy, folder, REPO or REPO:SUBFOLDER")
    add_source(parser)
    add_address(parser)
    page = parser.add_argument_group("playground")
    page.add_argument("--playground", action="store_true", help="serve a page at / to edit pictures on")
    page.add_argument("--compare", metavar="NAME", help="editor that the page shows side by side with --editor")
    page.add_argument("--judge", metavar="NAME", help="judge whose P(yes) the page shows: toy, folder or REPO")
    add_limits(parser.add_argument_group("limits"), picture="picture or extended canvas", waiting="edits", queue=16)
    add_execution(parser)


def add_address(parser: argparse._ActionsContainer) -> None:
    """Where to listen, and the token."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; another needs a token (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=8000, help="port, 0 for any free one (default: %(default)s)")
    parser.add_argument(
        "--token", metavar="TEXT", help=f"what requests must bear (default: ${_TOKEN_VARIABLE}, or none)"
    )


def add_limits(parser: argparse._ActionsContainer, *, picture: str, waiting: str, queue: int) -> None:
    """What may be sent and may wait, called so."""
    parser.add_argument(
        "--max-upload", type=float, default=32, metavar="MB", help="of a request (default: %(default)s)"
    )
    parser.add_argument(
        "--max-pixels", type=int, default=2**25, metavar="N", help=f"of a {picture} (default: %(default)s)"
    )
    parser.add_argument(
        "--queue", type=int, default=queue, metavar="N", help=f"{waiting} that may wait (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> None:
    """Check what was given, load the editor, answer until interrupted."""
    try:
        from onereward.serve.app import create_app
        from onereward.web.server import bound, serve, url_of

        if args.playground:
            from onereward.serve.playground import mount_playground
    except ModuleNotFoundError as error:
        raise missing_extra(error, "playground" if args.playground else "web") from error
    if not args.playground and (args.compare or args.judge):
        raise ValueError("--compare and --judge are for the page: add --playground")
    token, limits = token_of(args), _limits(args)
    with bound(args.host, args.port) as listener, ExitStack() as stack:
        load = loader_of(args)
        with _queue_of(args.editor, load, limits) as queue:
            app = create_app(queue, token=token)
            if args.playground:
                base = None if args.compare is None else _queue_of(args.compare, replace(load, lora=None), limits)
                stack.enter_context(base or nullcontext())
                mount_playground(app, queue, base=base, judge=_load_judge(args), token=token)
            listener.listen()
            url = url_of(listener)
            print(json.dumps({"url": url}) if args.json else f"listening on {url}", flush=True)
            serve(app, listener, hang_up=queue.hang_up)


def missing_extra(error: ModuleNotFoundError, extra: str) -> Exception:
    """What to raise where an import for serving failed: the way to the library, or the error if it is our own."""
    if str(error.name).startswith("onereward"):
        return error
    return OSError(f"serving needs the library {error.name!r}: pip install 'onereward[{extra}]'")


def _queue_of(editor: str, load: "Loader", limits: "Limits") -> "EditQueue":
    """A queue before the editor of that name."""
    from onereward.edit.editor import load_with
    from onereward.serve.queue import EditQueue

    return EditQueue(load_with(load, editor), recipe=recipe_of(editor, load), limits=limits)


def _load_judge(args: argparse.Namespace) -> "ImageJudge | None":
    from onereward.edit.judge import load_judge

    return None if args.judge is None else load_judge(args.judge)


def token_of(args: argparse.Namespace) -> str | None:
    """The token, if there is one; raises ValueError if the host needs one or no header can bear it."""
    from onereward.web.guard import is_loopback

    token = os.environ.get(_TOKEN_VARIABLE) if args.token is None else args.token
    if token is None and not is_loopback(args.host):
        raise ValueError(f"--host {args.host} is open to others: give a --token, or set {_TOKEN_VARIABLE}")
    if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("the token must be ASCII letters, digits or signs, without a space")
    return token


def _limits(args: argparse.Namespace) -> "Limits":
    from onereward.serve.limits import Limits

    return Limits(upload=int(args.max_upload * 2**20), pixels=args.max_pixels, waiting=args.queue)
