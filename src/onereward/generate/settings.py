"""With which settings each candidate is made: drawn at random, so that the best and the worst of N differ (Sec. 4.2).

The paper randomises "key inference parameters" without naming them; here they are the number of steps, the guidance,
true CFG, the scale of the initial noise (below 1 flat and washed out, above 1 restless), whether the editor is told the
prompt, and the seed.
"""

import json
from dataclasses import asdict, dataclass

from onereward.models.contract import Contract
from onereward.seeds import python_generator, seed_for

_STEP_SHARES = (0.125, 0.25, 0.5, 1.0)
_TRUE_CFG = (1.0, 2.0, 3.5)
_NOISE_SCALES = (0.8, 1.15)
_PROMPT_DROP = 0.12


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """`candidates` outputs a triplet with settings drawn from these choices and (low, high) ranges.

    Steps and true CFG are choices, so that samples which share them fill a batch; true CFG 1 is none. A share
    `prompt_drop` of the candidates is made without the prompt. `batch_size` is part of the config because it moves the
    last bits of a sum, so now and then a pixel by one grey level.
    """

    candidates: int
    seed: int
    steps: tuple[int, ...]
    guidance: tuple[float, float]
    true_cfg: tuple[float, ...]
    noise_scale: tuple[float, float]
    prompt_drop: float
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"got --candidates {self.candidates}, expected 1 or more, 2 or more to be voted on")
        if not self.steps or min(self.steps) < 1 or not self.true_cfg or min(self.true_cfg) < 1:
            raise ValueError(
                f"got --steps {self.steps} and --true-cfg {self.true_cfg}, expected one or more numbers from 1 up"
            )
        for name, (low, high) in {"guidance": self.guidance, "noise-scale": self.noise_scale}.items():
            if not 0 <= low <= high:
                raise ValueError(f"got --{name} {low} {high}, expected LOW HIGH with 0 <= LOW <= HIGH")
        if not 0 <= self.prompt_drop <= 1:
            raise ValueError(f"got --prompt-drop {self.prompt_drop}, expected a share of candidates from 0 to 1")
        if self.batch_size < 1:
            raise ValueError(f"got --batch-size {self.batch_size}, expected 1 or more")


def config_around(contract: Contract, *, candidates: int, seed: int) -> GenerateConfig:
    """Choices and ranges around an editor's own settings: an eighth to all of its steps, its whole guidance range."""
    return GenerateConfig(
        candidates=candidates,
        seed=seed,
        steps=tuple(sorted({max(1, round(share * contract.steps)) for share in _STEP_SHARES})),
        guidance=contract.guidance_range,
        true_cfg=tuple(sorted({*_TRUE_CFG, contract.true_cfg})),
        noise_scale=_NOISE_SCALES,
        prompt_drop=_PROMPT_DROP,
    )


def config_fixed(contract: Contract, *, candidates: int, seed: int) -> GenerateConfig:
    """The editor's own settings for every candidate, as it is used and compared: only the noise is drawn."""
    return GenerateConfig(
        candidates=candidates,
        seed=seed,
        steps=(contract.steps,),
        guidance=(contract.guidance, contract.guidance),
        true_cfg=(contract.true_cfg,),
        noise_scale=(1.0, 1.0),
        prompt_drop=0.0,
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What made one candidate: `onereward edit` with these settings repeats it, where `noise_scale` is 1."""

    steps: int
    guidance: float
    true_cfg: float
    noise_scale: float
    prompted: bool
    seed: int

    def to_json(self) -> str:
        """The settings as kept with a candidate; `paste_back`: outside the mask it has the source's pixels."""
        return json.dumps({**asdict(self), "paste_back": True}, sort_keys=True)


def draw_settings(config: GenerateConfig, triplet_id: str, index: int) -> Settings:
    """Settings of candidate `index` of a triplet: a function of the seed, the triplet and the index alone."""
    random = python_generator(config.seed, triplet_id, index, "candidate settings")
    return Settings(
        steps=random.choice(config.steps),
        guidance=round(random.uniform(*config.guidance), 3),
        true_cfg=random.choice(config.true_cfg),
        noise_scale=round(random.uniform(*config.noise_scale), 3),
        prompted=random.random() >= config.prompt_drop,
        seed=seed_for(config.seed, triplet_id, index, "candidate"),
    )
