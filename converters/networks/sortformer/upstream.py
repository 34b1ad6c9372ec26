"""NeMo's SortformerEncLabelModel with given tensors, as functions with the inputs and outputs of ours."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from converters.networks.sortformer.layout import HOP, RATE_HZ, SETTINGS, SUBSAMPLING, Sizes
from converters.upstream import nemo_sortformer
from pipeline.types import Arrays, Runner

_ASR = "nemo.collections.asr"


def nemo_model(state: Arrays, sizes: Sizes) -> Any:
    """Return NeMo's model with these tensors, in evaluation mode; raises ImportError where NeMo is not installed."""
    upstream, configuration = nemo_sortformer()
    model = upstream(cfg=configuration(_config(sizes)))
    tensors = {name: torch.tensor(tensor) for name, tensor in state.items() if name not in SETTINGS}
    # Counters and a layer that is never used are in NeMo's checkpoints and not in a state: they stay as they are.
    model.load_state_dict(model.state_dict() | tensors)
    return model.eval().requires_grad_(False)


def nemo_runner(model: Any, kind: str, frames: int) -> Runner:
    """Return what NeMo's model says of the inputs of a form.

    kind     "streaming", "offline" or "preprocessor"
    frames   that the outputs have room for: of 80 ms, of the preprocessor 10 ms
    """
    run: Callable[[Any, dict[str, torch.Tensor], int], dict[str, torch.Tensor]]
    run = {"streaming": _step, "offline": _window, "preprocessor": _mel}[kind]

    def runner(arrays: Arrays) -> Arrays:
        tensors = {
            name: torch.tensor(array, dtype=torch.int64 if array.dtype.kind == "i" else torch.float32)
            for name, array in arrays.items()
        }
        with torch.inference_mode():
            found = run(model, tensors, frames)
        return {
            name: tensor.numpy().astype(np.float32 if tensor.is_floating_point() else np.int32)
            for name, tensor in found.items()
        }

    return runner


def _step(model: Any, tensors: dict[str, torch.Tensor], frames: int) -> dict[str, torch.Tensor]:
    """Return a step's outputs; NeMo's predictions end with the last filled frame, where ours go on with zeros."""
    order = ("chunk", "chunk_lengths", "spkcache", "spkcache_lengths", "fifo", "fifo_lengths")
    predictions, embeddings, filled = model.forward_for_export(*(tensors[name] for name in order))
    padded = torch.nn.functional.pad(predictions, (0, 0, 0, frames - predictions.shape[1]))
    return {
        "speaker_preds": padded,
        "chunk_pre_encoder_embs_out": embeddings,
        "chunk_pre_encoder_lengths_out": filled,
    }


def _window(model: Any, tensors: dict[str, torch.Tensor], frames: int) -> dict[str, torch.Tensor]:
    encoded, filled = model.frontend_encoder(
        processed_signal=tensors["mel"], processed_signal_length=tensors["mel_length"]
    )
    return {"speaker_preds": model.forward_infer(encoded, filled)}


def _mel(model: Any, tensors: dict[str, torch.Tensor], frames: int) -> dict[str, torch.Tensor]:
    """Return the mel; NeMo pads its frames to a multiple of 16, ours end with the window."""
    mel, filled = model.preprocessor(input_signal=tensors["audio"], length=tensors["audio_length"])
    return {"mel": mel[:, :, :frames], "mel_length": filled}


def _config(sizes: Sizes) -> dict[str, Any]:
    """Return the configuration of NeMo's examples/…/streaming_sortformer_diarizer_4spk-v2.yaml, in other sizes."""
    return {
        "sample_rate": RATE_HZ,
        "max_num_of_spks": sizes.speakers,
        "streaming_mode": True,
        "model_defaults": {"fc_d_model": sizes.width, "tf_d_model": sizes.narrow},
        "preprocessor": {
            "_target_": f"{_ASR}.modules.AudioToMelSpectrogramPreprocessor",
            "normalize": "NA",
            "window_size": sizes.window / RATE_HZ,
            "window_stride": HOP / RATE_HZ,
            "sample_rate": RATE_HZ,
            "window": "hann",
            "features": sizes.mels,
            "n_fft": 512,
            "frame_splicing": 1,
            "dither": 0.00001,
        },
        "sortformer_modules": {
            "_target_": f"{_ASR}.modules.sortformer_modules.SortformerModules",
            "num_spks": sizes.speakers,
            "fc_d_model": sizes.width,
            "tf_d_model": sizes.narrow,
        },
        "encoder": {
            "_target_": f"{_ASR}.modules.ConformerEncoder",
            "feat_in": sizes.mels,
            "feat_out": -1,
            "n_layers": sizes.conformer_layers,
            "d_model": sizes.width,
            "subsampling": "dw_striding",
            "subsampling_factor": SUBSAMPLING,
            "subsampling_conv_channels": sizes.channels,
            "ff_expansion_factor": sizes.inner // sizes.width,
            "self_attention_model": "rel_pos",
            "n_heads": sizes.conformer_heads,
            "att_context_size": [-1, -1],
            "xscaling": sizes.scaled,
            "untie_biases": True,
            "conv_kernel_size": sizes.kernel,
            "conv_norm_type": "batch_norm",
        },
        "transformer_encoder": {
            "_target_": f"{_ASR}.modules.transformer.transformer_encoders.TransformerEncoder",
            "num_layers": sizes.transformer_layers,
            "hidden_size": sizes.narrow,
            "inner_size": sizes.narrow_inner,
            "num_attention_heads": sizes.transformer_heads,
            "hidden_act": "relu",
            "pre_ln": False,
        },
        "loss": {"_target_": f"{_ASR}.losses.bce_loss.BCELoss", "weight": None, "reduction": "mean"},
    }
