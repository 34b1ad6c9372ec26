"""What each layer of our torch network puts out, to hold other runtimes against."""

import torch
import torch.nn.functional as F
from torch import nn


def pyannet_layers(network, audio):
    """Return the output of each layer by name, as numpy arrays; `audio` is (batch, 1, sample)."""
    found = {}
    with torch.inference_mode():
        signal = network.sincnet.wav_norm1d(torch.from_numpy(audio))
        for i in range(3):
            signal = network.sincnet.conv1d[i](signal)
            signal = found[f"sincnet.{i}"] = network.sincnet._pooled(signal.abs() if i == 0 else signal, i)
        features = signal.transpose(1, 2)
        for i in range(network.lstm.num_layers):
            features, _ = _lstm_layer(network.lstm, i)(features)
            found[f"lstm.{i}"] = features
        for i, linear in enumerate(network.linear):
            features = found[f"linear.{i}"] = F.leaky_relu(linear(features))
        found["classifier"] = network.classifier(features)
        found["log_probs"] = F.log_softmax(found["classifier"], dim=-1)
    return {name: tensor.numpy() for name, tensor in found.items()}


def _lstm_layer(lstm, i):
    weights = {name: tensor for name, tensor in lstm.state_dict().items() if f"_l{i}" in name}
    features = weights[f"weight_ih_l{i}"].shape[1]
    layer = nn.LSTM(features, lstm.hidden_size, bidirectional=lstm.bidirectional, batch_first=True)
    layer.load_state_dict({name.replace(f"_l{i}", "_l0"): tensor for name, tensor in weights.items()})
    return layer
