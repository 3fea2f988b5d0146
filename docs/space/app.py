"""The playground as a Hugging Face Space; its variables ONEREWARD_EDITOR and ONEREWARD_JUDGE name what it shows."""

import os
from functools import partial

from onereward import load_editor, load_judge
from onereward.edit.jobs import Recipe
from onereward.serve.layout import LOOK
from onereward.serve.playground import playground
from onereward.serve.queue import EditQueue

editor = os.environ.get("ONEREWARD_EDITOR", "toy")
judge = os.environ.get("ONEREWARD_JUDGE")

with EditQueue(load_editor(editor), recipe=partial(Recipe, editor=editor)) as queue:
    page = playground(queue, judge=load_judge(judge) if judge else None)
    page.launch(share=False, max_file_size=queue.limits.upload, **LOOK)
