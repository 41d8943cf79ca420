"""Text in the encodings that editors and exporters write, and YAML's words as written."""

import gzip
import io
import lzma
import zipfile

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.errors import DatasetError
from manifests.text import as_yaml, decode_text, parse_json, parse_xml, parse_yaml, text_lines

MARKED = {"utf-8-sig": b"", "utf-16": b"", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}
MARKED |= {"utf-32": b"", "utf-32-le": b"\xff\xfe\0\0", "utf-32-be": b"\0\0\xfe\xff"}
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=40)


def zipped() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("x.csv", "a,b")
    return data.getvalue()


@pytest.mark.parametrize("encoding", MARKED)
@given(TEXT)
@settings(deadline=None, max_examples=30)
def test_any_text_with_a_mark_is_read_as_it_was_written(encoding: str, text: str) -> None:
    assert decode_text(MARKED[encoding] + text.encode(encoding), "x") == text


@given(TEXT)
@settings(deadline=None, max_examples=50)
def test_utf_8_needs_no_mark(text: str) -> None:
    assert decode_text(text.encode(), "x") == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_utf_16_without_a_mark_is_known_by_its_zeros(encoding: str) -> None:
    assert decode_text("dog\ncat\n".encode(encoding), "x") == "dog\ncat\n"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ("d\nmañana".encode("latin-1"), r"^classes\.txt: is not UTF-8 text \(byte 0xf1 in line 2\); save the file as"),
        ("名字".encode("cp950"), "is not UTF-8 text"),
        ("имя".encode("cp1251"), "is not UTF-8 text"),
        ("名字".encode("shift_jis"), "is not UTF-8 text"),
        (b"\xff\xfea", "is not UTF-8 text .*UTF-16 that its first bytes promise"),
        (b"\xff\xfe\x00\xd8", "UTF-16"),
        (b"caf\xe9", "byte 0xe9 in line 1"),
    ],
)
def test_other_encodings_are_refused_and_nothing_is_replaced(data: bytes, match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        decode_text(data, "classes.txt")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(b""), "is compressed (gzip); unpack it (gunzip)"),  # 20 bytes, most of them zeros
        (gzip.compress(b"[1, 2]" * 99), "is compressed (gzip)"),
        (lzma.compress(b"[1, 2]"), "is compressed (xz)"),
        (bytes.fromhex("28b52ffd0458"), "is compressed (zstd)"),
        (zipped(), "is a zip archive"),
    ],
)
def test_what_is_packed_is_no_text_and_the_line_says_how_to_unpack_it(data: bytes, said: str) -> None:
    for read in (decode_text, parse_json, parse_xml, parse_yaml):
        with pytest.raises(DatasetError) as caught:
            read(data, "d/x.json")
        assert str(caught.value).startswith(f"d/x.json: {said}") and "UTF-8" not in str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_of_all_systems_and_of_joined_files(end: str) -> None:
    assert text_lines(f"a b{end}\ufeffc\u2028d{end}") == ["a b", "c\u2028d", ""]


XML = '<?xml version="1.0" encoding="{}"?><Annotation xmlns="http://x"><Object><Name>狗é</Name></Object></Annotation>'


@pytest.mark.parametrize("declared", ["utf-8", "UTF-8", "utf-16", "gb2312", "GBK", "gb18030"])
@pytest.mark.parametrize("before", ["", "\n  "])
def test_xml_is_in_its_declared_encoding_and_its_names_are_plain(declared: str, before: str) -> None:
    text = XML.format(declared).replace("é", "")
    data = (before + text).encode("utf-8" if declared.lower().startswith("utf") else declared)
    root = parse_xml(data, "a.xml")
    assert (root.tag, root.findtext("object/name")) == ("annotation", "狗")


@pytest.mark.parametrize("encoding", ["big5", "shift_jis", "euc-kr", "latin-1", "windows-1252", "utf-16", "utf-8-sig"])
def test_xml_in_other_encodings(encoding: str) -> None:
    name = {"latin-1": "café", "windows-1252": "café", "euc-kr": "개", "shift_jis": "犬"}.get(encoding, "狗")
    declared = {"utf-8-sig": "utf-8"}.get(encoding, encoding)
    data = f'<?xml version="1.0" encoding="{declared}"?><a><b>{name}</b></a>'.encode(encoding)
    assert parse_xml(data, "a.xml").findtext("b") == name


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"<a>caf\xe9</a>", r"a\.xml: is not well-formed XML \(it is not UTF-8 text .*; save it as UTF-8, or declare"),
        (b'<?xml version="1.0" encoding="gbk"?><a>' + b"\xff</a>", "is not well-formed XML"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "unknown encoding: klingon"),
        (b'<?xml version="1.0" encoding="punycode"?><a/>', "unknown encoding"),
        (b'<?xml version="1.0" encoding="hex"?><a/>', "is not well-formed XML"),
        (b"<a>&</a>", "is not well-formed XML"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "declares entities"),
    ],
)
def test_xml_that_is_refused(data: bytes, match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        parse_xml(data, "a.xml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_in_any_unicode_encoding(encoding: str) -> None:
    assert parse_json('{"a": "狗"}'.encode(encoding), "x") == {"a": "狗"}


WORDS = ["yes", "no", "on", "off", "true", "False", "NULL", "~", "007", "0x1F", "1_5", "12:30", "2007", "1e5", "1.50"]
WORDS += [".5", "2024-01-02", "=", "inf", ".nan", "y"]


def test_yaml_words_are_what_is_written() -> None:
    assert parse_yaml(f"names: [{', '.join(WORDS)}]".encode(), "x") == {"names": WORDS}
    assert parse_yaml("\n".join(f"- {word}" for word in WORDS).encode("utf-16"), "x") == WORDS
    assert parse_yaml(b"a: &a {b: 1}\nc: {<<: *a, '2': no}\nd:\n", "x") == {
        "a": {"b": "1"},
        "c": {"b": "1", "2": "no"},
        "d": "",
    }


@pytest.mark.parametrize("text", ["{", "a: !!python/object/apply:os.system ['true']", "a: *b", "[" * 3000])
def test_yaml_that_is_refused(text: str) -> None:
    with pytest.raises(DatasetError, match=r"x\.yaml: is not well-formed YAML"):
        parse_yaml(text.encode(), "x.yaml")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("a: 1\nb: 2\na: 1", 3, "a"),
        ("{a: 1, 'a': 2}", 1, "a"),
        ("names:\n  0: dog\n  1: cat\n  1: bird", 4, "1"),
        ("- {x: {1: a, 2: b, \n1: c}}", 2, "1"),
        ("!!int 1: a\n!!int 01: b", 2, "01"),
        ("a: &x {k: 1, k: 2}\nb: *x", 1, "k"),
    ],
)
def test_yaml_with_a_key_twice_is_refused(text: str, line: int, key: str) -> None:
    with pytest.raises(DatasetError, match=rf"^x\.yaml: line {line}: has the key '{key}' twice; name it once$"):
        parse_yaml(text.encode(), "x.yaml")


def test_yaml_keys_that_override_merged_ones_are_no_second_ones() -> None:
    text = b"base: &b {a: one, b: two}\nown: &o {<<: *b, a: three}\nlast: {<<: *o, b: four}"
    assert parse_yaml(text, "x.yaml") == {
        "base": {"a": "one", "b": "two"},
        "own": {"a": "three", "b": "two"},
        "last": {"a": "three", "b": "four"},
    }


@pytest.mark.parametrize("name", ["2007", "012", "1_000", "no", "On", "1e5", "2024-01-02", "null", "0o17", "1.5e3"])
def test_a_dataset_named_like_a_number_or_a_word_is_printed_in_quotes(name: str) -> None:
    from ruamel.yaml import YAML  # DVC's

    printed = f"dataset: {as_yaml(name)}"
    assert printed == f'dataset: "{name}"'
    assert yaml.safe_load(printed) == YAML(typ="safe").load(printed) == {"dataset": name}


@pytest.mark.parametrize("name", ["scenes", "voc2007", "a_1", "e5", "Node", "yesterday"])
def test_other_dataset_names_need_no_quotes(name: str) -> None:
    assert as_yaml(name) == name
    assert yaml.safe_load(f"dataset: {name}") == {"dataset": name}
