"""What people send is checked before anything is computed."""

from pathlib import Path

import pytest
from PIL import Image

from litetext.app.workbench import (
    MAX_BYTES,
    MAX_PHRASES,
    SIDE,
    Reader,
    Workbench,
    check_upload,
    messages,
    one_a_line,
    open_picture,
    plain_name,
    safe_html,
)
from litetext.errors import ImageError, LiteTextError, OptionError


def test_phrases_of_a_field() -> None:
    assert one_a_line(" red car \n\nwhite dog\r\nred car") == ["red car", "white dog"]
    assert len(one_a_line("\n".join(map(str, range(MAX_PHRASES))))) == MAX_PHRASES
    for text, fact in (("", "no phrase"), (" \n\t", "no phrase"), ("\n".join(map(str, range(500))), "500")):
        with pytest.raises(OptionError, match=fact):
            one_a_line(text)
    with pytest.raises(OptionError, match="characters"):
        one_a_line("a" * 2**21)


def test_a_picture_is_measured_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (10_000, 10_001)).save(path)
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="10,000 x 10,001"):
        open_picture(str(path))


def test_a_large_picture_is_scaled_and_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.new("L", (2 * SIDE, 100)).save(path)
    picture, _, note = open_picture(str(path))
    assert picture.size == (SIDE, 50)
    assert f"{2 * SIDE} x 100" in note
    Image.new("L", (SIDE, 100)).save(path)
    assert open_picture(str(path))[2] == ""


def test_what_is_no_picture(tmp_path: Path) -> None:
    text, large = tmp_path / "note.txt", tmp_path / "large.png"
    text.write_text("hello")
    with large.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for path, fact in ((None, "no picture"), (str(tmp_path / "gone.png"), "not kept"), (str(large), "32 MB")):
        with pytest.raises(ImageError, match=fact):
            check_upload(path, "picture")
    with pytest.raises(ImageError, match="not an image"):
        open_picture(str(text))


def test_a_message_is_text_without_the_place_of_the_file(tmp_path: Path) -> None:
    import gradio

    with pytest.raises(gradio.Error) as caught, messages():
        raise ImageError("not an image", where=str(tmp_path / "<b>.png"), hint="a\x1b[31m {{b}} $")
    assert str(tmp_path) not in caught.value.message
    assert "&lt;b&gt;.png" in caught.value.message
    assert not {"\x1b", "<", "{"} & set(caught.value.message)


def test_marks_of_templates_are_text() -> None:
    assert safe_html("<style>a{b}</style> {{x}} ${y}") == "<style>a{b}</style> &#123;&#123;x}} &#36;{y}"


def test_one_or_two_encoders(bench: Workbench) -> None:
    for count in (0, 3):
        with pytest.raises(OptionError, match=str(count)):
            Workbench("micro", bench.readers[:1] * count, bench.folder)
    with pytest.raises(OptionError, match="micro-student"):
        bench.reader("../../etc/passwd")
    assert [reader.name for reader in bench.readers] == ["micro", "micro-student"]


def test_sizes_of_the_encoders(bench: Workbench) -> None:
    own, student = bench.readers
    assert own.parameters > 5 * student.parameters > 0
    assert own.bytes > student.bytes
    assert all(reader.resident is not None and reader.resident < 50e6 for reader in bench.readers)
    assert Reader("x", own.segmenter, 2_500_000, 10_000_000).sizes() == ["x", "2.50 M", "10.00 MB", "–"]


def test_names_as_parts_of_file_names() -> None:
    assert plain_name("../a b/S0 (1).pt") == "S0--1-.pt"
    assert plain_name("/") == "encoder"


def test_folders_cannot_be_guessed(bench: Workbench) -> None:
    one, other = bench.new_folder(), bench.new_folder()
    assert one != other
    assert len(one.name) == 32
    assert one.stat().st_mode & 0o077 == 0


def test_errors_are_all_messages() -> None:
    import gradio

    for fault in (MemoryError(), KeyError("/secret/path")):
        with pytest.raises(gradio.Error) as caught, messages():
            raise fault
        assert "secret" not in caught.value.message

    for kind in LiteTextError.__subclasses__():
        if kind.__name__ != "MissingExtraError":
            with pytest.raises(gradio.Error), messages():
                raise kind("what")
