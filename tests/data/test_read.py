"""Every picture mode has one defined conversion; every mask keeps its numbers; every refusal is a sentence."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from intarsia.data.read import as_channels, read_header, read_image, read_mask, rotate, to_float
from intarsia.errors import DataError, UnsafeFileError

H, W = 5, 7


def ramp(*channels: int, dtype: type = np.uint8) -> np.ndarray:
    """(H, W, *channels), every value different from its neighbours, up to the type's largest."""
    count = H * W * int(np.prod(channels, initial=1))
    return np.linspace(0, np.iinfo(dtype).max, count).astype(dtype).reshape(H, W, *channels)


def orientation_tag(value: int) -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[0x0112] = value
    return exif


def assert_header_fits(path: Path, image: np.ndarray) -> None:
    header = read_header(path)
    assert (header.height, header.width, header.channels) == image.shape


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_eight_bits_are_read_as_written(tmp_path: Path, suffix: str, channels: tuple[int, ...]) -> None:
    values = ramp(*channels)
    path = tmp_path / f"a.{suffix}"
    Pillow.fromarray(values).save(path, lossless=True)
    image = read_image(path)
    wanted = values.reshape(H, W, -1)
    np.testing.assert_array_equal(image, np.repeat(wanted, 3, 2) if suffix == "webp" and not channels else wanted)
    assert image.dtype == np.uint8
    assert_header_fits(path, image)


def test_jpeg_is_read_and_its_mask_is_called_lossy(tmp_path: Path) -> None:
    Pillow.fromarray(np.full((16, 24, 3), 120, np.uint8)).save(tmp_path / "a.jpg", quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (16, 24, 3) and abs(image.astype(int) - 120).max() <= 2
    assert read_mask(tmp_path / "a.jpg").lossy
    assert_header_fits(tmp_path / "a.jpg", image)


def test_a_lossy_webp_mask_is_called_lossy(tmp_path: Path) -> None:
    for lossless in (True, False):
        Pillow.fromarray(ramp(3)).save(tmp_path / "a.webp", lossless=lossless)
        assert read_mask(tmp_path / "a.webp").lossy is not lossless


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_png_keeps_sixteen_bits(tmp_path: Path, channels: int) -> None:
    values = ramp(channels, dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(values.squeeze()))
    image = read_image(tmp_path / "a.png")
    colours = channels - (channels in (2, 4))  # alpha is dropped, the colour under it kept
    np.testing.assert_array_equal(image, values[..., :colours])
    assert image.dtype == np.uint16
    assert_header_fits(tmp_path / "a.png", image)


def test_alpha_is_dropped_and_the_colour_under_it_kept(tmp_path: Path) -> None:
    colours, grey = ramp(4), ramp(2)
    colours[0, 0] = (10, 20, 30, 0)
    for suffix in ("png", "tif"):
        Pillow.fromarray(colours, "RGBA").save(tmp_path / f"rgba.{suffix}")
        np.testing.assert_array_equal(read_image(tmp_path / f"rgba.{suffix}"), colours[..., :3])
        Pillow.fromarray(grey, "LA").save(tmp_path / f"la.{suffix}")
        np.testing.assert_array_equal(read_image(tmp_path / f"la.{suffix}"), grey[..., :1])
        assert_header_fits(tmp_path / f"la.{suffix}", read_image(tmp_path / f"la.{suffix}"))


def test_four_bands_without_an_alpha_tag_stay_four(tmp_path: Path) -> None:
    values = ramp(4)
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig", extrasamples=(0, 0, 0)
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), values)
    tifffile.imwrite(tmp_path / "b.tif", values, photometric="rgb", extrasamples=("unassalpha",))
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif"), values[..., :3])


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_one_bit_is_black_and_white_in_a_picture_and_0_and_1_in_a_mask(tmp_path: Path, suffix: str) -> None:
    values = ramp() > 100
    Pillow.fromarray(values).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}")[..., 0], values * 255)
    np.testing.assert_array_equal(read_mask(tmp_path / f"a.{suffix}").values, values)
    assert_header_fits(tmp_path / f"a.{suffix}", read_image(tmp_path / f"a.{suffix}"))


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_are_spread_in_a_picture_and_kept_in_a_mask(tmp_path: Path, bits: int) -> None:
    values = np.arange(2**bits, dtype=np.uint8).reshape(2, -1)
    rows = b"".join(
        b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:].ravel()).tobytes() for row in values
    )
    (tmp_path / "a.png").write_bytes(png(values.shape[1], 2, bits, 0, rows))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png").values, values)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 0], values * (255 // (2**bits - 1)))


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_a_palette_is_colours_in_a_picture_and_indices_in_a_mask(tmp_path: Path, suffix: str) -> None:
    indices = np.arange(H * W, dtype=np.uint8).reshape(H, W) % 5
    colours = [(0, 0, 0), (200, 10, 10), (10, 200, 10), (1, 2, 3), (255, 255, 255)]
    picture = Pillow.fromarray(indices, "L")
    picture.putpalette([value for colour in colours for value in colour])
    picture.save(tmp_path / f"a.{suffix}")
    image, mask = read_image(tmp_path / f"a.{suffix}"), read_mask(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(image, np.array(colours, np.uint8)[indices])
    np.testing.assert_array_equal(mask.values, indices)
    assert mask.palette is not None and mask.palette[:5] == tuple(colours)
    assert_header_fits(tmp_path / f"a.{suffix}", image)


def test_transparency_of_a_palette_changes_nothing_and_warns_of_nothing(tmp_path: Path) -> None:
    picture = Pillow.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "L")
    picture.putpalette([9, 8, 7, 200, 100, 50])
    picture.save(tmp_path / "a.png", transparency=b"\0\x80")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "a.png")[0].tolist() == [[9, 8, 7], [200, 100, 50]]


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_becomes_rgb(tmp_path: Path, suffix: str) -> None:
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[..., 0] = 255  # full cyan takes all red
    ink[:8, :, 3] = 255  # black
    Pillow.fromarray(ink, "CMYK").save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}").astype(int)
    assert abs(image[4, 4] - [0, 0, 0]).max() <= 3
    assert abs(image[12, 12] - [0, 255, 255]).max() <= 3


@pytest.mark.parametrize("kind", ["tiled", "planar", "bigtiff", "big-endian", "deflate", "ome", "strips"])
def test_tiff_of_every_kind(tmp_path: Path, kind: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (40, 50, 3)).astype(np.uint16)
    path = tmp_path / "a.tif"
    match kind:
        case "tiled":
            tifffile.imwrite(path, values, tile=(16, 16), photometric="rgb")
        case "planar":
            tifffile.imwrite(path, np.moveaxis(values, -1, 0), planarconfig="separate", photometric="rgb")
        case "bigtiff":
            tifffile.imwrite(path, values, bigtiff=True, photometric="rgb")
        case "big-endian":
            tifffile.imwrite(path, values, byteorder=">", photometric="rgb")
        case "deflate":
            tifffile.imwrite(path, values, compression="deflate", predictor=True, photometric="rgb")
        case "ome":
            tifffile.imwrite(path, values, ome=True, photometric="rgb", metadata={"axes": "YXS"})
        case "strips":
            tifffile.imwrite(path, values, rowsperstrip=7, photometric="rgb")
    np.testing.assert_array_equal(read_image(path), values)
    assert_header_fits(path, values)


def test_pages_of_a_tiff(tmp_path: Path) -> None:
    pages = np.stack([ramp(dtype=np.uint16) // (n + 1) for n in range(4)])
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    assert read_header(tmp_path / "a.tif").pages == 4
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], pages[0])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", page=2)[..., 0], pages[2])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", pages_as_channels=True), np.moveaxis(pages, 0, -1))
    with pytest.raises(DataError, match=r"4 page\(s\)"):
        read_image(tmp_path / "a.tif", page=4)


def test_pages_that_differ_are_no_channels(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for size in (8, 4):
            file.write(np.zeros((size, size), np.uint8), photometric="minisblack")
    assert read_image(tmp_path / "a.tif").shape == (8, 8, 1)  # a pyramid: the full size
    with pytest.raises(DataError, match="must be alike"):
        read_image(tmp_path / "a.tif", pages_as_channels=True)


def test_twelve_bits_fill_sixteen(tmp_path: Path) -> None:
    values = np.array([[0, 4095], [2048, 1]], np.uint16)
    data = imagecodecs.packints_encode(values.ravel(), 12) if hasattr(imagecodecs, "packints_encode") else None
    if data is None:
        pytest.skip("this imagecodecs does not pack 12 bits")
    (tmp_path / "a.tif").write_bytes(tiff(2, 2, 12, bytes(data)))
    assert read_image(tmp_path / "a.tif")[..., 0].tolist() == [[0, 65535], [32776, 16]]
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif").values, values)


def test_min_is_white_is_turned(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", ramp(), photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], 255 - ramp())


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([[0.0, 0.25], [1.0, 0.5]]), np.float32),
        (np.array([[0.0, 2.0], [255.0, 7.0]]), np.uint8),
        (np.array([[0.0, 2.0], [256.0, 7.0]], np.float32), np.uint16),
        (np.array([[0, 200]], np.int64), np.uint8),
        (np.array([[0, 65535]], np.uint32), np.uint16),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "npz", "tif"])
def test_wide_numbers_within_a_known_range(tmp_path: Path, suffix: str, values: np.ndarray, wanted: type) -> None:
    path = save(tmp_path / f"a.{suffix}", values)
    image = read_image(path)
    assert image.dtype == wanted
    np.testing.assert_array_equal(image[..., 0], values.astype(wanted))
    assert read_header(path).dtype == values.dtype.name


@pytest.mark.parametrize("values", [np.array([[-1.0, 0.5]]), np.array([[0.0, 1.5]]), np.array([[0, 70000]])])
def test_a_range_that_only_the_user_knows_is_an_error_that_says_it(tmp_path: Path, values: np.ndarray) -> None:
    with pytest.raises(DataError, match=rf"from {values.min():g} to {values.max():g}"):
        read_image(save(tmp_path / "a.npy", values))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("suffix", ["npy", "tif"])
def test_what_is_no_number_is_refused(tmp_path: Path, bad: float, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", np.array([[0.0, bad], [0.5, 0.25]], np.float32))
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match=r"a\.(npy|tif)"):
            read(path)


def test_numpy_arrays_have_their_channels_last(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.npy", ramp(6))), ramp(6))
    with pytest.raises(DataError, match="channels first"):
        read_image(save(tmp_path / "a.npy", np.zeros((3, 40, 50), np.uint8)))
    with pytest.raises(DataError, match="expected"):
        read_image(save(tmp_path / "a.npy", np.zeros(4)))


def test_an_archive_of_arrays_has_one_picture(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", image=ramp(), other=np.zeros(3))
    np.testing.assert_array_equal(read_image(tmp_path / "a.npz")[..., 0], ramp())
    np.savez(tmp_path / "b.npz", x=ramp(), y=ramp())
    with pytest.raises(DataError, match="2 arrays"):
        read_image(tmp_path / "b.npz")


def test_bool_arrays(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", np.array([[True, False]]))
    assert read_image(path).tolist() == [[[255], [0]]]
    assert read_mask(path).values.tolist() == [[1, 0]]


@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
def test_masks_keep_sixteen_bits(tmp_path: Path, suffix: str) -> None:
    values = ramp(dtype=np.uint16)
    raw = read_mask(save(tmp_path / f"a.{suffix}", values))
    np.testing.assert_array_equal(raw.values, values)
    assert raw.size == (H, W) and raw.palette is None and not raw.lossy


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.float32, np.int16])
def test_masks_of_wide_numbers(tmp_path: Path, dtype: type) -> None:
    values = np.array([[0, 3], [-1 if dtype in (np.int32, np.int64, np.int16) else 5, 30000]], dtype)
    raw = read_mask(save(tmp_path / "a.npy", values))
    assert raw.values.dtype.kind == "i"
    np.testing.assert_array_equal(raw.values, values)


@pytest.mark.parametrize("values", [np.array([[0.5]]), np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3), np.uint16)])
def test_masks_that_are_none(tmp_path: Path, values: np.ndarray) -> None:
    with pytest.raises(DataError, match="is a mask"):
        read_mask(save(tmp_path / "a.npy", values))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_exif_orientation_is_applied_as_viewers_do(tmp_path: Path, suffix: str, orientation: int) -> None:
    values = np.zeros((16, 32, 3), np.uint8)
    values[:8, :8] = 250
    values[8:, 24:] = 120
    path = tmp_path / f"a.{suffix}"
    Pillow.fromarray(values).save(path, exif=orientation_tag(orientation), quality=95, lossless=True, subsampling=0)
    image, header = read_image(path), read_header(path)
    if suffix == "jpg":
        viewed = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        assert image.shape == viewed.shape and abs(image.astype(int) - viewed).max() <= 8
    else:
        np.testing.assert_array_equal(image, turned_by_the_standard(values, orientation))
        np.testing.assert_array_equal(image, rotate(values, orientation))
    assert (header.height, header.width, header.orientation) == (*image.shape[:2], orientation)
    assert header.stored_size == (16, 32)


def turned_by_the_standard(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Where pixel (0, 0) and the first row go, by the table of Exif 2.3, 4.6.4: 'the 0th row is the visual ...'."""
    row_side, column_side = {
        1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left",
        5: "left top", 6: "right top", 7: "right bottom", 8: "left bottom",
    }[orientation].split()  # fmt: skip
    turned = stored if row_side in ("top", "bottom") else stored.transpose(1, 0, 2)
    if "bottom" in (row_side, column_side):
        turned = turned[::-1]
    return turned[:, ::-1] if "right" in (row_side, column_side) else turned


def test_damaged_exif_is_no_reason_to_fail_or_to_warn(tmp_path: Path) -> None:
    plain = io.BytesIO()
    Pillow.fromarray(ramp(3)).save(plain, "jpeg")
    for exif in (b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff\x12\x01", b"", b"MM"):
        block = b"Exif\0\0" + exif
        data = plain.getvalue()
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
        (tmp_path / "a.jpg").write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_image(tmp_path / "a.jpg").shape == (H, W, 3)


def test_a_file_is_what_it_holds_not_what_it_is_called(tmp_path: Path) -> None:
    Pillow.fromarray(ramp(3)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert read_header(tmp_path / "a.jpg").kind == "png"
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), ramp(3))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\n <?xml version='1.0'?><svg/>", "SVG"),
        (b"GIF89a\x01\0\x01\0", "GIF"),
        (b"not a picture", "no picture we know"),
    ],
)
def test_other_formats_are_named_and_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_header, read_image, read_mask):
        with pytest.raises(DataError, match=words):
            read(tmp_path / "a.png")


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="is a folder"):
        read_image(tmp_path)


def test_pickles_are_refused_unopened(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return open, (str(marker), "w")  # type: ignore[return-value]

    np.save(tmp_path / "objects.npy", np.array([[Trap()]], object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", image=np.array([[Trap()]], object), allow_pickle=True)
    import pickle

    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(Trap()))
    for name in ("objects.npy", "pickle.npy", "objects.npz"):
        with pytest.raises(UnsafeFileError):
            read_image(tmp_path / name)
    assert not marker.exists()


def test_the_limit_is_the_users(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "bmp", "webp", "tif", "npy"):
        path = save(tmp_path / f"a.{suffix}", np.zeros((20, 30), np.uint8))
        for read in (read_header, read_image, read_mask):
            with pytest.raises(UnsafeFileError, match="30 x 20"):
                read(path, limit=599)
        assert read_image(path, limit=600).shape[:2] == (20, 30)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif", "npy"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.97])
def test_cut_files_are_found(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    path = save(tmp_path / f"a.{suffix}", noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=f"a.{suffix}"):
        read_image(path)


def test_a_flipped_bit_in_a_png_is_found(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", ramp())
    data = bytearray(path.read_bytes())
    data[-25] ^= 1  # within the pixels
    path.write_bytes(data)
    with pytest.raises(DataError, match="checksum"):
        read_mask(path)


def test_grey_and_colour_by_defined_rules() -> None:
    grey = ramp(1)
    assert as_channels(grey, 1) is grey
    np.testing.assert_array_equal(as_channels(grey, 3), np.repeat(grey, 3, 2))
    colour = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)
    assert as_channels(colour, 1)[0, :, 0].tolist() == [76, 150, 29, 9]
    np.testing.assert_array_equal(as_channels(ramp(4), 3), ramp(4)[..., :3])
    with pytest.raises(DataError, match="5 channels where 3"):
        as_channels(ramp(5), 3)


@given(st.integers(0, 65535))
def test_floats_are_shares_of_the_largest_value(value: int) -> None:
    assert to_float(np.array([[[value]]], np.uint16)).item() == pytest.approx(value / 65535, abs=1e-7)
    assert to_float(np.array([[[value % 256]]], np.uint8)).item() == pytest.approx(value % 256 / 255, abs=1e-7)


def test_the_ends_of_the_range_are_exact() -> None:
    assert to_float(np.array([[[0, 255]]], np.uint8)).tolist() == [[[0.0, 1.0]]]
    assert to_float(np.array([[[0, 65535]]], np.uint16)).tolist() == [[[0.0, 1.0]]]


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 5))
def test_an_orientation_and_its_inverse_change_nothing(orientation: int, height: int, width: int) -> None:
    values = np.arange(height * width).reshape(height, width)
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    np.testing.assert_array_equal(rotate(rotate(values, orientation), inverse), values)


def save(path: Path, values: np.ndarray) -> Path:
    match path.suffix:
        case ".npy":
            np.save(path, values)
        case ".npz":
            np.savez(path, values)
        case ".tif":
            tifffile.imwrite(path, values)
        case ".png":
            path.write_bytes(imagecodecs.png_encode(values))
        case _:
            Pillow.fromarray(values).save(path)
    return path


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(width: int, height: int, bits: int, data: bytes) -> bytes:
    """An uncompressed grey TIFF, written by hand."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 1), (277, 3, 1), (278, 4, height)]
    tags += [(273, 4, 8 + 2 + 12 * 9 + 4), (279, 4, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0" + data
