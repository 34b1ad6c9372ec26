"""Networks to measure on: upstream's own code, and the package that plain coremltools makes of it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from converters.models import sortformer
from converters.networks.sortformer.layout import sizes_in
from converters.networks.sortformer.network import sources
from converters.networks.sortformer.upstream import nemo_model
from converters.upstream import pyannote_segmentation, pyannote_wespeaker
from pipeline.types import Arrays

SAMPLE_RATE_HZ, DURATION_S = 16000, 10
LSTM = {"hidden_size": 128, "num_layers": 4, "bidirectional": True, "monolithic": True, "dropout": 0.0}


class Segmentation(torch.nn.Module):
    """PyanNet without Lightning and with its filters computed once: what upstream runs, in a form that traces.

    waveforms   (batch, 1, sample)      returns (batch, frame, 7)  log P(class)
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        network_class, task = pyannote_segmentation()
        network = network_class(sincnet={"stride": 10}, lstm=LSTM)
        network.specifications = task.Specifications(
            problem=task.Problem.MONO_LABEL_CLASSIFICATION,
            resolution=task.Resolution.FRAME,
            duration=DURATION_S,
            classes=["1", "2", "3"],
            powerset_max_classes=2,
        )
        network.build()
        absent, unknown = network.load_state_dict(load_file(weights), strict=False)
        assert not unknown, unknown
        assert all("filterbank" in name for name in absent), absent
        filters = network.sincnet.conv1d[0].filterbank.filters().detach()
        convolution = torch.nn.Conv1d(1, filters.shape[0], filters.shape[-1], stride=10, bias=False)
        convolution.weight.data = filters
        self.wav_norm = network.sincnet.wav_norm1d
        self.convolutions = torch.nn.ModuleList([convolution, *network.sincnet.conv1d[1:]])
        self.norms, self.pools = network.sincnet.norm1d, network.sincnet.pool1d
        self.lstm, self.linear, self.classifier = network.lstm, network.linear, network.classifier
        self.eval()

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        x = self.wav_norm(waveforms)
        for index, (convolution, norm, pool) in enumerate(zip(self.convolutions, self.norms, self.pools, strict=True)):
            x = convolution(x).abs() if index == 0 else convolution(x)
            x = torch.nn.functional.leaky_relu(norm(pool(x)))
        x, _ = self.lstm(x.transpose(1, 2))
        for linear in self.linear:
            x = torch.nn.functional.leaky_relu(linear(x))
        return torch.log_softmax(self.classifier(x), dim=-1)


class WeSpeaker(torch.nn.Module):
    """WeSpeakerResNet34 behind its log-mel features, without Lightning: the part of upstream's code that converts.

    features   (batch, frame, 80)      returns (batch, 256)
    """

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        network = pyannote_wespeaker()()
        tensors = {name: torch.tensor(tensor) for name, tensor in state.items()}
        network.load_state_dict(network.state_dict() | tensors)
        self.resnet = network.resnet
        self.eval()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        weights = torch.ones_like(features[:, :, 0])  # every frame counts
        return self.resnet(features, weights=weights)[1]


class Sortformer(torch.nn.Module):
    """NeMo's Sortformer as one step of a stream, as NeMo exports it, with a packing of fixed shape, which traces.

    Takes and returns what `converters.models.sortformer` does.
    """

    outputs = ("speaker_preds", "chunk_pre_encoder_embs_out", "chunk_pre_encoder_lengths_out")

    def __init__(self, state: Arrays, form: sortformer.Form) -> None:
        super().__init__()
        self.form, self.model = form, nemo_model(state, sizes_in(state))
        self.eval()

    def forward(
        self,
        chunk: torch.Tensor,
        chunk_lengths: torch.Tensor,
        spkcache: torch.Tensor,
        spkcache_lengths: torch.Tensor,
        fifo: torch.Tensor,
        fifo_lengths: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        frames, filled = self.model.encoder.pre_encode(x=chunk, lengths=chunk_lengths)
        past = spkcache_lengths + fifo_lengths
        index = sources(torch.arange(self.form.frames), spkcache_lengths, past, self.form.spkcache, self.form.fifo)
        packed = torch.cat([spkcache, fifo, frames], dim=1)[:, index]
        encoded, count = self.model.frontend_encoder(packed, past + filled, bypass_pre_encode=True)
        return self.model.forward_infer(encoded, count), frames, filled.int()

    def example(self) -> dict[str, torch.Tensor]:
        """Return a step's inputs, by name, all that there is room for filled with noise."""
        generator = torch.Generator().manual_seed(0)
        filled = {"chunk": self.form.mel_frames, "spkcache": self.form.spkcache, "fifo": self.form.fifo}
        found = {}
        for tensor in sortformer.inputs(self.form):
            length = filled.get(tensor.name.removesuffix("_lengths"), 0)
            drawn = torch.randn([size for size in tensor.shape if isinstance(size, int)], generator=generator)
            found[tensor.name] = drawn if tensor.dtype == "float32" else torch.tensor([length], dtype=torch.int32)
        return found


def converted(network: torch.nn.Module, example: torch.Tensor, folder: Path, half: bool) -> Path:
    """Return the package that coremltools makes of a network, with fp16 or fp32 inside and fp32 in and out."""
    import coremltools as ct

    with torch.inference_mode():
        traced = torch.jit.trace(network, example)
    model = ct.convert(
        traced,
        inputs=[ct.TensorType("x", example.shape, dtype=np.float32)],
        outputs=[ct.TensorType("y", dtype=np.float32)],
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        skip_model_load=True,
    )
    path = folder / f"network-{'fp16' if half else 'fp32'}.mlpackage"
    model.save(str(path))
    return path
