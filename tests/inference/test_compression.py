"""Compressed pictures: what comes back, who can open them, and what is refused."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.errors import DataError, UsageError
from intarsia.inference import compression
from intarsia.inference.compression import WholeNumbers, compress, decompress, read_header
from intarsia.models.generative.vqvae import VQVAE, VQVAEConfig
from intarsia.models.semantic import UNet, UNetConfig
from intarsia.records import Batch

TINY = {"width": 8, "blocks": 1, "latent": 4, "codes": 16, "quantizers": 3, "prior_width": 8, "prior_blocks": 1}
SIZE = (40, 56)


def made(seed: int = 0, **options: object) -> VQVAE:
    """A model whose codebooks one batch has placed, and whose prior has opinions."""
    torch.manual_seed(seed)
    model = VQVAE(VQVAEConfig.model_validate({"size": SIZE, **TINY, **options})).train()
    for _ in range(3):
        model.loss(Batch(torch.rand(4, model.config.channels, 32, 32)), "autoencoder")
    for parameter in model.prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def picture(height: int = 40, width: int = 56, channels: int = 3, kind: type = np.uint8) -> np.ndarray:
    values = np.random.default_rng(height + width).random((height, width, channels), np.float32)
    return values if kind is np.float32 else (values * np.iinfo(kind).max).astype(kind)


def own_reconstruction(model: VQVAE, image: np.ndarray, quality: int | None = None) -> np.ndarray:
    top = 1 if image.dtype == np.float32 else np.iinfo(image.dtype).max
    images = torch.from_numpy(np.moveaxis(image.astype(np.float32) / np.float32(top), -1, 0)[None].copy())
    with torch.no_grad():
        values = model.reconstruct(images, quality)[0].numpy() * np.float32(top)
    values = np.moveaxis(values, 0, -1)
    return values if image.dtype == np.float32 else np.rint(values).astype(image.dtype)


MODEL = made()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_what_comes_back_is_the_models_own_reconstruction(kind: type, channels: int) -> None:
    model, image = made(channels=channels), picture(channels=channels, kind=kind)
    for quality in (1, 3, None):
        again = decompress(model, compress(model, image, quality))
        assert again.dtype == image.dtype
        assert np.array_equal(again, own_reconstruction(model, image, quality))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 3))
def test_pictures_of_any_size_come_back(height: int, width: int, quality: int) -> None:
    image = picture(height, width)
    again = decompress(MODEL, compress(MODEL, image, quality))
    assert np.array_equal(again, own_reconstruction(MODEL, image, quality))


def test_done_in_parts_it_is_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(130, 90)
    whole = decompress(MODEL, compress(MODEL, image)).astype(int)
    monkeypatch.setattr(compression, "PART", 5)
    data = compress(MODEL, image)
    parts = decompress(MODEL, data).astype(int)
    assert np.abs(whole - parts).max() <= 1  # float sums of another shape may round otherwise


OTHER_PROCESS = """
import sys, numpy as np, torch
from pathlib import Path
from safetensors.torch import load_file
from intarsia.inference.compression import decompress
from intarsia.models.generative.vqvae import VQVAE, VQVAEConfig
torch.set_num_threads(2)
folder = Path(sys.argv[1])
model = VQVAE(VQVAEConfig.model_validate_json((folder / "config.json").read_text()))
model.load_state_dict(load_file(folder / "weights.safetensors"))
np.save(folder / "again.npy", decompress(model, (folder / "picture.intarsia").read_bytes()))
"""


def test_another_process_opens_it(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    image = picture()
    save_file(MODEL.state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "config.json").write_text(MODEL.config.model_dump_json())
    (tmp_path / "picture.intarsia").write_bytes(compress(MODEL, image))
    subprocess.run([sys.executable, "-c", OTHER_PROCESS, str(tmp_path)], check=True, timeout=120)
    again = np.load(tmp_path / "again.npy").astype(int)
    assert np.abs(again - own_reconstruction(MODEL, image).astype(int)).max() <= 1


def test_the_size_of_the_file_is_what_the_prior_says_it_is() -> None:
    image = picture(200, 200)
    with torch.no_grad():
        codes = MODEL.codes(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
        bits = MODEL.prior.bits(codes, torch.tensor([3])).sum().item() * 25 * 25
    overhead = 36 * 8 + 64  # header and checksum, and the coder's last words
    assert bits < 8 * len(compress(MODEL, image)) < 1.01 * bits + overhead


def test_fewer_levels_make_smaller_files() -> None:
    sizes = [len(compress(MODEL, picture(), quality)) for quality in (1, 2, 3)]
    assert sizes == sorted(set(sizes))


def test_chances_are_whole_numbers_none_of_them_zero() -> None:
    prior, seen = WholeNumbers(MODEL), []

    def coder(codes: np.ndarray, chances: np.ndarray) -> np.ndarray:
        assert chances.dtype == np.int64
        seen.append(chances)
        return codes

    prior.pass_over(np.zeros((3, 6, 9), np.int32), coder)
    chances = np.concatenate(seen)
    assert chances.shape == (3 * 6 * 9, 16)
    assert (chances.sum(axis=1) == 2**16).all()
    assert chances.min() >= 1
    assert np.ptp(chances) > 1000  # it has opinions


def test_whole_numbers_stay_exact_where_weights_are_huge() -> None:
    model = made()
    for parameter in model.prior.parameters():
        torch.nn.init.normal_(parameter, std=1e6)
    image = picture()
    assert np.array_equal(decompress(model, compress(model, image)), own_reconstruction(model, image))


def test_any_flipped_bit_is_noticed() -> None:
    data = compress(MODEL, picture())
    for place in [*range(40), *range(40, len(data), 7)]:
        for bit in (0, 7):
            broken = bytearray(data)
            broken[place] ^= 1 << bit
            with pytest.raises(DataError):
                decompress(MODEL, bytes(broken))


def test_any_missing_end_is_noticed() -> None:
    data = compress(MODEL, picture())
    for length in [*range(45), len(data) - 4, len(data) - 1]:
        with pytest.raises(DataError):
            decompress(MODEL, data[:length])
    with pytest.raises(DataError, match="damaged"):
        decompress(MODEL, data + b"\0")


def signed(content: bytes) -> bytes:
    return content + struct.pack(">I", zlib.crc32(content))


def lie(data: bytes, place: int, new: bytes) -> bytes:
    """The file with other bytes in its header, and a checksum that fits."""
    return signed(data[:place] + new + data[place + len(new) : -4])


@pytest.mark.parametrize(
    ("place", "new", "words"),
    [
        (0, b"PNG.", "INTA"),
        (4, b"\x02", "version 2"),
        (5, b"\x03", "makes no sense"),
        (6, struct.pack(">II", 0, 5), "makes no sense"),
        (6, struct.pack(">II", 2**32 - 1, 2**32 - 1), "limit"),
        (6, struct.pack(">II", 10000, 10000), "can't be in a file"),
        (14, b"\x01", "does not fit the model"),
        (15, b"\xff", "does not fit the model"),
        (15, b"\x00", "makes no sense"),
        (16, b"\x00", "another model"),
    ],
)
def test_headers_that_lie_are_refused(place: int, new: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        decompress(MODEL, lie(compress(MODEL, picture()), place, new))


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300))
def test_nonsense_after_a_true_header_gives_a_picture_or_a_sentence(nonsense: bytes) -> None:
    """Whoever can compute a checksum can make up codes; they must not be able to do more than that."""
    data = signed(compress(MODEL, picture())[:32] + nonsense)
    try:
        found = str(decompress(MODEL, data).shape)
    except DataError as error:
        found = str(error)
    assert found == "(40, 56, 3)" or "damaged" in found


def test_files_of_other_weights_are_refused() -> None:
    with pytest.raises(DataError, match="another model"):
        decompress(made(seed=1), compress(MODEL, picture()))


def test_what_can_not_be_packed_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="1 to 3"):
        compress(MODEL, picture(), 4)
    with pytest.raises(UsageError, match="1 to 3"):
        compress(MODEL, picture(), 0)
    with pytest.raises(DataError, match="float64"):
        compress(MODEL, picture().astype(np.float64))
    with pytest.raises(DataError, match="shape"):
        compress(MODEL, picture(channels=1))
    with pytest.raises(UsageError, match="vqvae"):
        compress(UNet(UNetConfig(width=4, depth=1)), picture())


def test_a_file_says_what_it_is() -> None:
    header = read_header(compress(MODEL, picture(kind=np.uint16), 2))
    assert (header.height, header.width, header.channels, header.bytes_a_value, header.levels) == (40, 56, 3, 2, 2)
