"""The toy editor's parts before training: the classes of FLUX.1-Fill at small sizes."""

from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from onereward.models.contract import Contract
from onereward.toy.scenes import HUES, SHAPES, SIZE
from onereward.toy.tokenizers import toy_clip_tokenizer, toy_t5_tokenizer

PROMPT_WORDS = (
    *("a", "sign", "that", "says", "remove", "high-definition", "high", "definition", "perfect", "composition"),
    *HUES,
    *SHAPES,
)
TEXT_LENGTH = 16
VAE_FACTOR, LATENT_CHANNELS = 4, 8
PACKED_LATENT = LATENT_CHANNELS * 4
PACKED_MASK = VAE_FACTOR * VAE_FACTOR * 4

CONTRACT = Contract(
    guidance=1.0,
    guidance_range=(1.0, 4.0),
    true_cfg=1.0,
    negative_prompt="",
    steps=4,
    max_sequence_length=TEXT_LENGTH,
    size_multiple=2 * VAE_FACTOR,
    native_size=SIZE,
    max_pixels=SIZE * SIZE,
)


def build_tokenizers() -> tuple[CLIPTokenizer, T5Tokenizer]:
    return (
        toy_clip_tokenizer(PROMPT_WORDS, max_length=TEXT_LENGTH),
        toy_t5_tokenizer(PROMPT_WORDS, max_length=TEXT_LENGTH),
    )


def build_text_encoders(
    clip_tokenizer: CLIPTokenizer, t5_tokenizer: T5Tokenizer
) -> tuple[CLIPTextModel, T5EncoderModel]:
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(clip_tokenizer),
            hidden_size=64,
            intermediate_size=128,
            projection_dim=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=TEXT_LENGTH,
            bos_token_id=clip_tokenizer.bos_token_id,
            eos_token_id=clip_tokenizer.eos_token_id,
            pad_token_id=clip_tokenizer.pad_token_id,
        )
    )
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=len(t5_tokenizer),
            d_model=128,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            relative_attention_num_buckets=16,
            relative_attention_max_distance=16,
        )
    )
    return clip, t5


def build_transformer(width: int = 192, double: int = 2, single: int = 4) -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=2 * PACKED_LATENT + PACKED_MASK,
        out_channels=PACKED_LATENT,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=32,
        num_attention_heads=width // 32,
        joint_attention_dim=128,
        pooled_projection_dim=64,
        guidance_embeds=True,
        axes_dims_rope=(8, 12, 12),
    )


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """FLUX.1's own schedule: exponential shift, linear in the number of image tokens."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )
