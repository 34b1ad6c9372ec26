"""The pass that makes Fourier matrices, windows and mel filters exact: what it recognises, and what it leaves."""

import numpy as np
import pytest

from mil.package import read_package
from mil.values import decode
from optimizations import linear_quantize, palettize
from optimizations.analytic import spectral
from optimizations.analytic.recognition import recognised
from optimizations.analytic.stored import Stored
from optimizations.restore_analytic_constants import Options, apply
from tests.fixtures import FIXTURES, needs_fixtures

ct = pytest.importorskip("coremltools")
from coremltools.converters.mil import Builder as mb  # noqa: E402, N813

from tests.optimizations.packages import saved, weights_by_coremltools  # noqa: E402

BINS, SIZE = 65, 128
COS = spectral.fourier("cos", SIZE, BINS)
MEL = spectral.kaldi_mel_filters(20, BINS, 16000, 20, 8000)
HAMMING = spectral.window("hamming", SIZE, periodic=False)


def front_end(path, target=ct.target.iOS17, fourier=COS, mel=MEL, window=HAMMING, dtype=np.float32):
    """Save a small log-mel with the given constants."""
    fourier, mel, window = (each.astype(dtype) for each in (fourier, mel, window))

    @mb.program(input_specs=[mb.TensorSpec((10, SIZE))], opset_version=target)
    def program(x):
        if dtype == np.float16:
            x = mb.cast(x=x, dtype="fp16")
        spectrum = mb.matmul(x=mb.mul(x=x, y=window, name="windowed"), y=fourier, transpose_y=True, name="fourier")
        energies = mb.linear(x=mb.square(x=spectrum), weight=mel, name="mel")
        return mb.log(x=energies, epsilon=1e-6, name="log_mel")

    return saved(program, target, path, ct.precision.FLOAT32)


def restored(tmp_path, source, options=None):
    found = apply(source, options or Options(), None, tmp_path / "restored.mlpackage")
    return found, weights_by_coremltools(tmp_path / "restored.mlpackage")


def test_exact_constants_stay(tmp_path):
    """And each is named."""
    found, _ = restored(tmp_path, front_end(tmp_path / "source.mlpackage"))
    assert not found["restored"]
    assert sorted(each["reason"] for each in found["left"]) == [
        "is Kaldi mel filters of 20 × 65, 20 to 8000 Hz at 16000 Hz exactly",
        "is cos of 65 bins over 128 samples exactly",
        "is symmetric hamming window of 128 exactly",
    ]


def _palettes(nbits, target):
    return target, lambda source, memo, out: palettize.apply(
        source, palettize.Options(nbits, weight_threshold=512), memo, out
    )


def _grouped(source, memo, out):
    options = palettize.Options(3, "per_grouped_channel", group_size=5, weight_threshold=512)
    return palettize.apply(source, options, memo, out)


def _integers(source, memo, out):
    return linear_quantize.apply(source, linear_quantize.Options(weight_threshold=512), memo, out)


@pytest.mark.parametrize(
    ("target", "compress"),
    [
        _palettes(6, ct.target.iOS17),
        _palettes(6, ct.target.iOS18),
        _palettes(4, ct.target.iOS18),
        (ct.target.iOS18, _grouped),
        (ct.target.iOS17, _integers),
        (ct.target.iOS18, _integers),
    ],
    ids=["6 bits", "6 bits, iOS 18", "4 bits, iOS 18", "groups", "integers", "integers, iOS 18"],
)
def test_compressed_constants_become_exact(tmp_path, memo, target, compress):
    """Every bit of them, whatever they were compressed with; the window was below the threshold."""
    source = front_end(tmp_path / "source.mlpackage", target)
    compress(source, memo, tmp_path / "compressed.mlpackage")
    found, weights = restored(tmp_path, tmp_path / "compressed.mlpackage")
    assert [each["name"].split("_")[0] for each in found["restored"]] == ["fourier", "mel"]
    assert all(each["max_difference"] > 0 for each in found["restored"])
    values = {name.split("_")[0]: value for name, value in weights.items() if value.ndim == 2}
    np.testing.assert_array_equal(values["fourier"], COS.astype(np.float32))
    np.testing.assert_array_equal(values["mel"], MEL.astype(np.float32))


def test_constants_rounded_to_half_precision_and_back_become_exact(tmp_path):
    """As in a program whose weights were once fp16."""
    rounded = {key: value.astype(np.float16).astype(np.float32) for key, value in _named().items()}
    found, weights = restored(tmp_path, front_end(tmp_path / "source.mlpackage", **rounded))
    assert len(found["restored"]) == 3
    np.testing.assert_array_equal(weights["mel_weight_0"], MEL.astype(np.float32))


def test_half_precision_stays_half_precision(tmp_path):
    """The type is the program's; the value is the nearest that it has."""
    found, _ = restored(tmp_path, front_end(tmp_path / "source.mlpackage", dtype=np.float16))
    assert not found["restored"]
    assert all("exactly" in each["reason"] for each in found["left"])


def _named():
    return {"fourier": COS, "mel": MEL, "window": HAMMING}


def test_random_constants_stay(tmp_path, memo):
    """Of the same shapes, and in palettes."""
    generator = np.random.default_rng(0)
    drawn = {key: generator.standard_normal(value.shape) for key, value in _named().items()}
    source = front_end(tmp_path / "source.mlpackage", **(drawn | {"mel": np.abs(drawn["mel"])}))
    palettize.apply(source, palettize.Options(4, weight_threshold=512), memo, tmp_path / "compressed.mlpackage")
    found, _ = restored(tmp_path, tmp_path / "compressed.mlpackage")
    assert not found["restored"]
    assert len(found["left"]) == 3
    assert all("not explained by how it is stored" in each["reason"] for each in found["left"])


def test_trained_filters_stay(tmp_path):
    """A Fourier matrix that training has moved by a hundredth is no longer one."""
    moved = COS + 0.01 * np.random.default_rng(0).standard_normal(COS.shape)
    found, _ = restored(tmp_path, front_end(tmp_path / "source.mlpackage", fourier=moved))
    assert not found["restored"]
    left = next(each for each in found["left"] if each["name"].startswith("fourier"))
    assert left["cosine"] > 0.99
    assert "nearest is cos of 65 bins" in left["reason"]


def test_only_the_kinds_that_are_asked_for(tmp_path):
    """A mel matrix may be left alone."""
    rounded = {key: value.astype(np.float16).astype(np.float32) for key, value in _named().items()}
    source = front_end(tmp_path / "source.mlpackage", **rounded)
    found, _ = restored(tmp_path, source, Options(kinds=("window",)))
    assert [each["formula"] for each in found["restored"]] == ["symmetric hamming window of 128"]
    with pytest.raises(ValueError, match="expected some of fourier, window, mel"):
        Options(kinds=("melody",))


FORMULAS = {
    "periodic hann window of 400": spectral.window("hann", 400, True),
    "symmetric povey window of 400": spectral.window("povey", 400, False),
    "symmetric blackman window of 512": spectral.window("blackman", 512, False),
    "square root of a periodic hann window of 64": np.sqrt(spectral.window("hann", 64, True)),
    "-sin of 257 bins over 512 samples": -spectral.fourier("sin", 512, 257),
    "cos and sin of 33 bins over a periodic hann window of 64": np.concatenate(
        [spectral.fourier(part, 64, 33) * spectral.window("hann", 64, True) for part in ("cos", "sin")]
    )[:, None],
    "slaney mel filters of 128 × 257, 0 to 8000 Hz at 16000 Hz, of equal area": spectral.hz_mel_filters(
        128, 257, 16000, 0, 8000, "slaney", True
    ),
    "htk mel filters of 40 × 201, 0 to 4000 Hz at 8000 Hz": spectral.hz_mel_filters(
        40, 201, 8000, 0, 4000, "htk", False
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_each_formula_is_told_from_its_neighbours(name):
    """In single precision, and turned where it has two axes."""
    for values in (FORMULAS[name], FORMULAS[name].T):
        rounded = values.astype(np.float32).astype(np.float64)
        verdict = recognised(Stored("fp32", rounded, rounded - 5e-4, rounded + 5e-4), ("fourier", "window", "mel"))
        assert verdict is not None
        assert verdict.formula is not None
        assert verdict.formula.name == name


def test_windows_and_mel_filters_are_those_of_torch():
    """The formulas, held against other people's code."""
    torch = pytest.importorskip("torch")
    for ours, theirs in (("hann", torch.hann_window), ("hamming", torch.hamming_window)):
        for periodic in (False, True):
            expected = theirs(400, periodic=periodic, dtype=torch.float64).numpy()
            np.testing.assert_allclose(spectral.window(ours, 400, periodic), expected, atol=1e-12)
    librosa = pytest.importorskip("librosa")
    for htk, norm in ((True, None), (False, "slaney")):
        expected = librosa.filters.mel(sr=16000, n_fft=512, n_mels=80, htk=htk, norm=norm, dtype=np.float64)
        found = spectral.hz_mel_filters(80, 257, 16000, 0, 8000, "htk" if htk else "slaney", norm is not None)
        np.testing.assert_allclose(found, expected, atol=1e-9)


@needs_fixtures
@pytest.mark.parametrize("name", ["palette_8bit", "palette_6bit", "palette_4bit", "int8", "pruned_int8", "mixed"])
def test_a_published_front_end_gets_back_its_exact_values(tmp_path, name):
    """Silero's Fourier matrix under a Hann window: from every compressed form, the bits of the uncompressed program."""
    exact = _basis(next((FIXTURES / "apple_pairs" / "silero_fp").glob("*.mlpackage")))
    source = next((FIXTURES / "apple_pairs" / f"silero_{name}").glob("*.mlpackage"))
    found = apply(source, Options(), None, tmp_path / "restored.mlpackage")
    assert [each["formula"] for each in found["restored"]] == [
        "cos and -sin of 129 bins over a periodic hann window of 256"
    ]
    np.testing.assert_array_equal(_basis(tmp_path / "restored.mlpackage"), exact)


def _basis(path) -> np.ndarray:
    package = read_package(path)
    function = package.spec.mlProgram.functions["main"]
    operation = next(
        each
        for each in function.block_specializations[function.opset].operations
        if each.outputs[0].name.startswith("stft_forward_basis_to_fp16")
    )
    return decode(operation.attributes["val"], package)
