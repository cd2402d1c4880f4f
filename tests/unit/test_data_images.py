"""Labels, image headers and decoding of uploaded archives."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelward.data import check_image_extraction, load_images
from modelward.data.headers import read_header
from modelward.domain import (
    AssessmentError,
    ImageExtractionConfig,
    InvalidInputError,
    PayloadTooLargeError,
)

GRAY = ImageExtractionConfig(input_shape=(6, 5, 1), number_of_classes=3)
COLOR = ImageExtractionConfig(input_shape=(6, 5, 3), number_of_classes=3)
PIXELS = np.arange(30, dtype=np.uint8).reshape(6, 5) * 8
Files = dict[str, bytes]


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(size: tuple[int, int] = (5, 6)) -> bytes:
    return encoded(Image.new("L", size, 7))


def zipped(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def upload(tmp_path: Path) -> Callable[..., dict[str, Path]]:
    def make(
        data: Files | None = None, label: Files | str | bytes | None = None,
        model: Files | None = None,
    ) -> dict[str, Path]:  # fmt: skip
        table = label if label is not None else "image,label\n0.png,0\n1.png,2\n"
        if isinstance(table, str):
            table = table.encode()
        return {
            "data": zipped(
                tmp_path / "data.zip", data or {"data/0.png": png(), "data/1.png": png()}
            ),
            "label": zipped(
                tmp_path / "label.zip", {"x/l.csv": table} if isinstance(table, bytes) else table
            ),
            "model": zipped(tmp_path / "model.zip", model or {"m/a.h5": b"anything"}),
        }

    return make


Upload = Callable[..., dict[str, Path]]


@pytest.mark.parametrize(
    "table",
    [
        "image,label\n0.png,0\n1.png,2\n",
        "\ufeffImage , LABEL\r\n0.png, 0\r\n1.png ,2.0\r\n\r\n",
        "label;image\n0;0.png\n2;1.png",
        "\timage\tlabel\n0\t0.png\t0\n1\t1.png\t2\n",
        '"","image","label"\n"1","data/0.png","0"\n"2","./data/1.png","2"\n',
        "image,label\nother/0.png,0\nother\\1.png,2\n",
        "image,label\n0.png,0\n1.png,2\n0.png,0\n",
        "image,label\n0.png,0\n1.png,2\n".encode("utf-16"),
    ],
)
def test_label_tables(upload: Upload, table: str | bytes):
    files = upload(label=table)
    check_image_extraction(GRAY, files)
    loaded = load_images(files["data"], files["label"], GRAY)
    assert loaded.labels.tolist() == [0, 2]
    assert loaded.images.shape == (2, 6, 5, 1)
    assert loaded.images.dtype == np.uint8
    assert (loaded.images == 7).all()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,class\n0.png,0\n", r"expected the columns image,label in 'x/l.csv'; got .*file,cl"),
        ("image,label\n0.png,3\n", r"row 2 of .*label from 0 to 2 .*number_of_classes 3.*got '3'"),
        ("image,label\n0.png,-1\n", r"got '-1'"),
        ("image,label\n0.png,1.5\n", r"got '1.5'"),
        ("image,label\n0.png,cat\n", r"got 'cat'"),
        ("image,label\n0.png,\n", r"label from 0 to 2.*got ''"),
        ("image,label\n0.png,١\n", r"label from 0 to 2"),
        ("image,label\n0.png,99999999999999999999\n", r"label from 0 to 2"),
        ("image,label\n0.png,0\n0.png,1\n", r"one label for image '0.png'; got 0 and 1"),
        ("image,label\n0.png\n", r"row 2 of .*expected image and label; got \['0.png'\]"),
        ("image,label\n", r"at least one image in 'x/l.csv'; got none"),
        ("", r"expected the columns image,label"),
        ("image,label\n" + "".join(f"{i}.png,1\n" for i in range(2, 9)),
         r"missing '2.png', '3.png', '4.png' and 4 more"),
        ('image,label\n"' + "x" * 200_000 + '",1\n', r"expected a readable csv; got field larger"),
        (b"\x00\xff\xfe\x80", r"expected the columns image,label"),
    ],
)  # fmt: skip
def test_label_tables_refused(upload: Upload, table: str | bytes, message: str):
    with pytest.raises(InvalidInputError, match=message):
        check_image_extraction(GRAY, upload(label=table))


def test_slots_are_named(upload: Upload):
    files = upload()
    del files["label"], files["model"]
    with pytest.raises(
        InvalidInputError, match="expected data, label, model; missing label, model"
    ):
        check_image_extraction(GRAY, files)


def test_csv_is_found_or_refused(upload: Upload):
    table = b"image,label\n0.png,0\n"
    check_image_extraction(GRAY, upload(label={"a/b/c.CSV": table, "notes.csv": b"a,b\n1,2\n"}))
    check_image_extraction(GRAY, upload(label={"a.csv": table, "__MACOSX/._a.csv": b"\0\5"}))
    with pytest.raises(InvalidInputError, match=r"expected one csv; got 'a.csv', 'b.csv'"):
        check_image_extraction(GRAY, upload(label={"a.csv": table, "b.csv": table}))
    with pytest.raises(InvalidInputError, match=r"one csv with the columns.*archive with 'a.txt'"):
        check_image_extraction(GRAY, upload(label={"a.txt": table}))


def test_one_archive_in_every_slot(upload: Upload):
    everything = {
        "0.png": png(),
        "1.png": png(),
        "labels.csv": b"image,label\n0.png,0\n1.png,2\n",
        "model.keras": b"x",
    }
    files = upload(data=everything, label=everything, model=everything)
    check_image_extraction(GRAY, files)
    assert load_images(files["data"], files["label"], GRAY).labels.tolist() == [0, 2]


def test_same_name_in_two_folders(upload: Upload):
    data = {"a/0.png": png(), "b/0.png": png(), "b/1.png": png()}
    check_image_extraction(GRAY, upload(data=data, label="image,label\na/0.png,1\nb/0.png,2\n"))
    with pytest.raises(InvalidInputError, match=r"'0.png' to name one file; got 'a/0.png', 'b/0.p"):
        check_image_extraction(GRAY, upload(data=data, label="image,label\n0.png,1\n"))


def test_litter_and_unlabelled_images_are_ignored(upload: Upload):
    data = {
        "data/0.png": png(), "data/1.png": png(), "data/9.png": b"broken", ".DS_Store": b"x",
        "__MACOSX/data/._0.png": b"x", "__MACOSX/data/0.png": b"x",
    }  # fmt: skip
    files = upload(data=data)
    check_image_extraction(GRAY, files)
    assert load_images(files["data"], files["label"], GRAY).unlabelled == 1


def test_decomposed_names_match(upload: Upload):
    files = upload(data={"u\u0308.png": png()}, label="image,label\n\u00fc.png,1\n")
    assert load_images(files["data"], files["label"], GRAY).labels.tolist() == [1]


def test_sizes_come_from_headers(upload: Upload):
    files = upload(data={"0.png": png(), "d/1.png": png((6, 5))})
    with pytest.raises(
        InvalidInputError, match=r"images of 6 x 5 \(height x width\).*got 5 x 6 in 'd/1.png'"
    ):
        check_image_extraction(GRAY, files)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"hello", "something else"),
        (b"II*\0" + b"\0" * 40, "a TIFF"),
        (png()[:18], "a file without a readable size"),
        (b"\xff\xd8\xff\xe0" + b"\0\xff" * 50, "JPEG|readable size"),
    ],
)
def test_what_is_no_image(upload: Upload, content: bytes, found: str):
    files = upload(data={"0.png": png(), "1.png": content})
    with pytest.raises(InvalidInputError, match=rf"'1.png' to be an image .*got .*({found})"):
        check_image_extraction(GRAY, files)


def test_too_many_pixels(upload: Upload):
    shape = ImageExtractionConfig(input_shape=(2048, 2048, 3), number_of_classes=3)
    rows = "".join(f"{i}.png,0\n" for i in range(200))
    files = upload(data={f"{i}.png": b"x" for i in range(200)}, label="image,label\n" + rows)
    with pytest.raises(PayloadTooLargeError, match="bytes of pixels; got 2516582400"):
        check_image_extraction(shape, files)


FORMS = [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("BMP", {}), ("GIF", {}),
         ("WEBP", {}), ("WEBP", {"lossless": True}), ("WEBP", {"exif": b"Exif\0\0ab"})]  # fmt: skip


@pytest.mark.parametrize(("kind", "options"), FORMS)
@pytest.mark.parametrize("size", [(1, 1), (5, 6), (300, 17), (64, 1025)])
def test_headers_agree_with_a_decoder(kind: str, options: dict[str, object], size: tuple[int, int]):
    content = encoded(Image.new("RGB", size, (200, 10, 99)), kind, **options)
    header = read_header(content)
    assert header == (kind, size[1], size[0])
    for length in range(1, 40):  # a cut header is unknown, never an exception out of the parser
        try:
            part = read_header(content[:length])
        except ValueError:
            continue
        assert part in (None, header)


def test_jpeg_size_behind_long_metadata(upload: Upload):
    segment = b"\xff\xe1" + (65_535).to_bytes(2, "big") + b"\0" * 65_533
    jpeg = encoded(Image.fromarray(PIXELS), "JPEG")
    files = upload(data={"0.png": jpeg[:2] + segment * 3 + jpeg[2:], "1.png": png()})
    check_image_extraction(GRAY, files)
    assert len(load_images(files["data"], files["label"], GRAY).images) == 2


def test_top_down_bitmap():
    content = bytearray(encoded(Image.new("RGB", (5, 6)), "BMP"))
    content[22:26] = (-6).to_bytes(4, "little", signed=True)
    assert read_header(bytes(content)) == ("BMP", 6, 5)


def modes() -> dict[str, tuple[bytes, list[int], int]]:
    """Encoded one-coloured images: expected RGB and gray."""
    size = (5, 6)
    palette = Image.new("RGB", size, (200, 100, 50)).quantize(4)
    wide = Image.fromarray(np.full((6, 5), 128 * 257, np.uint16))
    orange, luma = [200, 100, 50], 124  # 0.299 R + 0.587 G + 0.114 B
    return {
        "L": (encoded(Image.new("L", size, 90)), [90, 90, 90], 90),
        "LA": (encoded(Image.new("LA", size, (90, 10))), [90, 90, 90], 90),
        "1": (encoded(Image.new("1", size, 1)), [255, 255, 255], 255),
        "P": (encoded(palette), orange, luma),
        "RGB": (encoded(Image.new("RGB", size, (200, 100, 50))), orange, luma),
        "RGBA": (encoded(Image.new("RGBA", size, (200, 100, 50, 3))), orange, luma),
        "I;16": (encoded(wide), [128, 128, 128], 128),
        "CMYK": (
            encoded(Image.new("CMYK", size, (0, 0, 0, 55)), "JPEG", quality=100),
            [200, 200, 200],
            200,
        ),
    }


@pytest.mark.parametrize("mode", modes())
def test_every_mode_becomes_8_bit_gray_or_rgb(upload: Upload, mode: str):
    content, color, gray = modes()[mode]
    files = upload(data={"0.png": content}, label="image,label\n0.png,1\n")
    for config, expected in ((COLOR, color), (GRAY, [gray])):
        check_image_extraction(config, files)
        images = load_images(files["data"], files["label"], config).images
        assert images.shape == (1, *config.input_shape)
        assert np.abs(images.astype(int) - expected).max() <= 1


def test_pixels_keep_their_places(upload: Upload):
    color = np.stack([PIXELS, PIXELS[::-1], 255 - PIXELS], axis=-1)
    files = upload(
        data={"0.png": encoded(Image.fromarray(color)), "1.png": encoded(Image.fromarray(PIXELS))},
        label="image,label\n1.png,1\n0.png,0\n",
    )
    loaded = load_images(files["data"], files["label"], COLOR)
    assert loaded.names == ("1.png", "0.png")
    assert (loaded.images[1] == color).all()
    assert (loaded.images[0] == PIXELS[..., None]).all()


def test_an_image_that_does_not_decode_is_named(upload: Upload):
    broken = bytearray(encoded(Image.fromarray(PIXELS)))
    broken[45:60] = b"\0" * 15
    files = upload(data={"d/0.png": png(), "d/1.png": bytes(broken)})
    check_image_extraction(GRAY, files)  # the header is fine
    with pytest.raises(AssessmentError, match=r"expected 'd/1.png' to decode as an image"):
        load_images(files["data"], files["label"], GRAY)


def test_worker_errors_are_assessment_errors(upload: Upload):
    files = upload(label="image,label\n7.png,0\n")
    with pytest.raises(AssessmentError, match=r"missing '7.png'"):
        load_images(files["data"], files["label"], GRAY)


def test_upload_that_is_no_zip_names_its_slot(upload: Upload):
    files = upload()
    files["label"].write_text("image,label\n")
    with pytest.raises(InvalidInputError, match="label: archive: expected a zip file"):
        check_image_extraction(GRAY, files)
