"""How the playground looks: the components of its page, two columns that become one on a narrow screen."""

from dataclasses import dataclass
from typing import Any

import gradio

from onereward.edit.regions import Fit
from onereward.models.contract import Contract
from onereward.serve.playing import STROKE
from onereward.terms import Task

SIDES = ("left", "right", "top", "bottom")
_BRUSH = "#{:02x}{:02x}{:02x}{:02x}".format(*STROKE)
_RATIOS = ("1:1", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16")
HINTS = {
    Task.FILL: ("What should be there", "a red star"),
    Task.TEXT: ("What should be there, its words in quotes", 'a sign that says "OPEN"'),
    Task.REMOVE: ("", ""),
    Task.EXTEND: ("What the new part should show (may stay empty)", "a quiet lake"),
}
"""Label and example of the prompt for each task."""

LOOK: dict[str, Any] = {
    # The fonts of the machine itself: the page asks no other host for anything.
    "theme": gradio.themes.Default(
        primary_hue="rose", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    ),
    "css": """
        .gradio-container { width: 100%; max-width: 1200px !important; margin: 0 auto !important }
        #session .grid-wrap { min-height: 0 !important; padding-top: 2rem }
        #odds table, #odds tr, #odds th, #odds td { border: none !important; background: none !important }
        #odds table { width: 100% }
        #odds caption { text-align: left; padding-bottom: 0.3rem }
        #odds th { font-weight: normal; text-align: left; width: 1%; white-space: nowrap }
        #odds th, #odds td { padding: 0.1rem 0.4rem }
        #odds td:last-child { text-align: right; width: 4rem; font-variant-numeric: tabular-nums }
        #odds meter { width: 100% }
    """,
    "footer_links": [],
    "run_history": False,
    "ssr_mode": False,
}
"""What `launch` and `mount_gradio_app` are given besides the page."""

_COPY = """async (file) => {
    const button = document.querySelector("#copy-recipe");
    const recipe = await (await fetch(file.url)).text();
    try {
        await navigator.clipboard.writeText(recipe);
    } catch {  // not a secure context, as on http://some-machine
        const area = document.body.appendChild(document.createElement("textarea"));
        area.value = recipe;
        area.select();
        document.execCommand("copy");
        area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy recipe"; }, 2000);
}"""


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Where a picture comes in and is painted on, or, for an extend, shown with what will be new."""

    upload: gradio.File
    painter: gradio.ImageEditor
    preview: gradio.Image
    another: gradio.Button


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is asked; `form` has the components that fill the fields of an EditJob, by their names."""

    form: dict[str, Any]
    sides: gradio.Group
    next_seed: gradio.Button
    dice: gradio.Button
    run: gradio.Button
    stop: gradio.Button


@dataclass(frozen=True, kw_only=True)
class Results:
    """What came of it; `found` holds all but the slider and is shown once there is something to show."""

    slider: gradio.ImageSlider
    found: gradio.Column
    odds: gradio.HTML
    edited_file: gradio.DownloadButton
    recipe_file: gradio.DownloadButton
    recipe: gradio.Code
    gallery: gradio.Gallery


@dataclass(frozen=True, kw_only=True)
class Page:
    """The components that events touch; the states are a visitor's own: a Picture, Shown results, ids of edits."""

    picture: gradio.State
    history: gradio.State
    running: gradio.State
    canvas: Canvas
    wishes: Wishes
    results: Results


def lay_out(contract: Contract) -> Page:
    """Make the components inside the `gradio.Blocks` that is open; the contract's settings stand for blank ones."""
    gradio.Markdown("# OneReward\nDrop a picture, paint over what should change, say what should be there.")
    with gradio.Row():
        with gradio.Column(min_width=320):
            canvas, wishes = _canvas(), _wishes(contract)
        with gradio.Column(min_width=320):
            results = _results()
    return Page(
        picture=gradio.State(),
        history=gradio.State(),
        running=gradio.State(),
        canvas=canvas,
        wishes=wishes,
        results=results,
    )


def _canvas() -> Canvas:
    return Canvas(
        # No gradio.Image, which would decode the file itself, and tell of one it cannot in its own words.
        upload=gradio.File(
            label="Picture: PNG, JPEG or WebP", file_types=[".png", ".jpg", ".jpeg", ".webp"], height=240
        ),
        painter=gradio.ImageEditor(
            label="Paint here",
            type="pil",
            sources=(),
            transforms=(),
            layers=False,
            brush=gradio.Brush(colors=[_BRUSH], default_color=_BRUSH, color_mode="fixed"),
            buttons=["fullscreen"],
            height=420,
            visible=False,
        ),
        preview=gradio.Image(
            label="Red is new", interactive=False, buttons=[], format="png", height=320, visible=False
        ),
        another=gradio.Button("Another picture", size="sm", visible=False),
    )


def _wishes(contract: Contract) -> Wishes:
    tasks = [(task.capitalize(), task.value) for task in Task]
    label, example = HINTS[Task.FILL]
    form: dict[str, Any] = {
        "task": gradio.Radio(tasks, value=Task.FILL.value, label="Task"),
        "prompt": gradio.Textbox(label=label, placeholder=example),
    }
    with gradio.Group(visible=False) as sides:
        form |= _sides()
    with gradio.Row():
        run = gradio.Button("Edit", variant="primary", scale=3, min_width=120)
        stop = gradio.Button("Stop", min_width=90)
    with gradio.Row():
        form["seed"] = gradio.Number(0, label="Seed: another one, another image", precision=0, minimum=0, scale=2)
        with gradio.Column(min_width=120):
            next_seed = gradio.Button("Next seed", size="sm")
            dice = gradio.Button("Random seed", size="sm")
    with gradio.Accordion("Advanced", open=False):
        form |= _settings(contract)
    return Wishes(form=form, sides=sides, next_seed=next_seed, dice=dice, run=run, stop=stop)


def _sides() -> dict[str, Any]:
    ratios = [("the sides below", ""), *((ratio, ratio) for ratio in _RATIOS)]
    chosen: dict[str, Any] = {"ratio": gradio.Dropdown(ratios, value="", label="Extend by")}
    for pair in (SIDES[:2], SIDES[2:]):
        with gradio.Row():
            for side in pair:
                chosen[side] = gradio.Slider(0, 1024, value=0, step=1, label=f"{side.capitalize()}, pixels")
    return chosen


def _settings(contract: Contract) -> dict[str, Any]:
    """Blank fields, which leave a setting to the editor; their placeholders say what that is."""
    with gradio.Row():  # texts, because a gradio.Number that is blank says 0
        steps = gradio.Textbox(label="Steps", placeholder=str(contract.steps), min_width=90)
        guidance = gradio.Textbox(label="Guidance", placeholder=str(contract.guidance), min_width=90)
        true_cfg = gradio.Textbox(label="True CFG", placeholder=str(contract.true_cfg), min_width=90)
    return {
        "steps": steps,
        "guidance": guidance,
        "true_cfg": true_cfg,
        "negative_prompt": gradio.Textbox(
            label="Negative prompt (with a true CFG above 1)", placeholder=contract.negative_prompt
        ),
        "fit": gradio.Radio(
            [
                ("around the mask", Fit.CROP.value),
                ("all, margins mirrored", Fit.PAD.value),
                ("all, resized", Fit.SNAP.value),
            ],
            value=Fit.CROP.value,
            label="What the editor sees",
        ),
        "feather": gradio.Slider(0, 64, value=0, step=1, label="Feather, pixels inside the mask's edge"),
    }


def _results() -> Results:
    slider = gradio.ImageSlider(label="Before and after", format="png", buttons=["fullscreen"], max_height=520)
    with gradio.Column(visible=False) as found:
        with gradio.Row():
            edited_file = gradio.DownloadButton("Save PNG", size="sm", min_width=90, elem_id="edited-file")
            copy = gradio.Button("Copy recipe", size="sm", min_width=90, elem_id="copy-recipe")
            recipe_file = gradio.DownloadButton("Save recipe", size="sm", min_width=90, elem_id="recipe-file")
        copy.click(None, recipe_file, js=_COPY, api_visibility="private")
        odds = gradio.HTML(elem_id="odds", visible=False)
        gallery = gradio.Gallery(
            label="This session: choose one to go back to it",
            elem_id="session",
            columns=4,
            fit_columns=False,
            object_fit="cover",
            allow_preview=False,
            format="png",
            buttons=[],
        )
        with gradio.Accordion("What is in the recipe", open=False):
            gradio.Markdown(
                "The picture, the mask and every setting. It makes the same image again: "
                "`onereward edit --recipe recipe.json --output again.png`"
            )
            recipe = gradio.Code(language="json", label="In short", interactive=False, buttons=[], max_lines=16)
    return Results(
        slider=slider,
        found=found,
        odds=odds,
        edited_file=edited_file,
        recipe_file=recipe_file,
        recipe=recipe,
        gallery=gallery,
    )
