"""What a Sortformer's NeMo configuration has to say, and what of it the shapes of its tensors do not tell; no torch."""

from collections.abc import Mapping
from typing import Any

from converters.nemo import setting
from converters.networks.sortformer.layout import CONFORMER_HEADS, FFT, HOP, RATE_HZ, SCALED, TRANSFORMER_HEADS
from pipeline.types import QuernError

# Path in the configuration → NeMo's default, and the values that our network computes with.
_REQUIRED: Mapping[str, tuple[Any, tuple[Any, ...]]] = {
    "encoder.subsampling": ("striding", ("dw_striding",)),
    "encoder.subsampling_factor": (4, (8,)),
    "encoder.causal_downsampling": (False, (False,)),
    "encoder.reduction": (None, (None,)),
    "encoder.self_attention_model": ("rel_pos", ("rel_pos",)),
    "encoder.att_context_size": ([-1, -1], ([-1, -1],)),
    "encoder.att_context_style": ("regular", ("regular",)),
    "encoder.untie_biases": (True, (True,)),
    "encoder.use_bias": (True, (True,)),
    "encoder.conv_norm_type": ("batch_norm", ("batch_norm",)),
    "encoder.conv_context_size": (None, (None,)),
    "transformer_encoder.pre_ln": (False, (False,)),
    "transformer_encoder.hidden_act": ("relu", ("relu",)),
    "transformer_encoder.mask_future": (False, (False,)),
    "preprocessor.sample_rate": (RATE_HZ, (RATE_HZ,)),
    "preprocessor.window_stride": (0.02, (HOP / RATE_HZ,)),
    "preprocessor.n_fft": (FFT, (FFT,)),
    "preprocessor.preemph": (0.97, (0.97,)),
    "preprocessor.mag_power": (2.0, (2.0,)),
    "preprocessor.log": (True, (True,)),
    "preprocessor.log_zero_guard_type": ("add", ("add",)),
    "preprocessor.log_zero_guard_value": (2**-24, (2**-24,)),
    "preprocessor.frame_splicing": (1, (1,)),
    "preprocessor.exact_pad": (False, (False,)),
    "preprocessor.normalize": ("per_feature", ("NA", False)),
}


def settings_of(config: dict[str, Any], source: str) -> dict[str, int]:
    """Return the SETTINGS that a NeMo configuration names.

    Raises QuernError where it describes another computation than ours, one sentence with the first difference.
    """
    for path, (default, accepted) in _REQUIRED.items():
        found = setting(config, path, default)
        if found not in accepted:
            wanted = " or ".join(repr(value) for value in accepted)
            raise QuernError(f"{source}: {path} is {str(found)[:80]!r}; only {wanted} can be converted")
    return {
        CONFORMER_HEADS: _count(config, "encoder.n_heads", 4, source),
        TRANSFORMER_HEADS: _count(config, "transformer_encoder.num_attention_heads", 1, source),
        SCALED: int(bool(setting(config, "encoder.xscaling", True))),
    }


def _count(config: dict[str, Any], path: str, default: int, source: str) -> int:
    found = setting(config, path, default)
    if type(found) is not int or not 1 <= found <= 1024:
        raise QuernError(f"{source}: {path} is {str(found)[:80]!r}; expected a whole number from 1 on")
    return found
