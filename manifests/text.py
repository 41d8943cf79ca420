"""The one place that opens text as people's tools write it: its encoding, its lines, XML's and YAML's own rules."""

import codecs
import json
import re
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree as safe_xml
import yaml
from defusedxml.common import DefusedXmlException

from cache.errors import DatasetError

_MAX_XML_BYTES = 16 * 2**20  # the largest of VOC's own is 30 kB
_MAX_YAML_BYTES = 2**20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# How files begin that are packed, as no text does; the mark, what it is and how to unpack it.
_PACKED = (
    (b"\x1f\x8b\x08", "compressed (gzip); unpack it (gunzip)"),
    (b"\xfd7zXZ\0", "compressed (xz); unpack it (unxz)"),
    (b"\x28\xb5\x2f\xfd", "compressed (zstd); unpack it (unzstd)"),
    (b"PK\x03\x04", "a zip archive, or a spreadsheet's own file; unpack it, or save it as text"),
)
_DECLARED = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._:-]+)["']""")
# What files that declare the left one are written in: the right one holds all of it, and what Windows adds.
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "big5": "cp950", "shift_jis": "cp932", "euc_kr": "cp949"}

# Python's codecs that no document is written in, and that are slow on a long one.
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode_escape", "raw-unicode-escape"})


def decode_text(data: bytes, name: str) -> str:
    """Decode a text file: UTF-8, with a byte-order mark or without one; UTF-16 and UTF-32 with theirs.

    UTF-16 without a mark is known by its zero bytes, where a quarter of the file are such. DatasetError, naming the
    file ``name``, for anything else: nothing is guessed, and no character is replaced.
    """
    refuse_packed(data, name)
    marks = [(mark, encoding) for mark, encoding in _MARKS if data.startswith(mark)]
    unmarked = json.detect_encoding(data) if 0 < len(data) <= 4 * data.count(0) else "utf-8"
    mark, encoding = marks[0] if marks else (b"", unmarked)
    body = data[len(mark) :]
    try:
        return body.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        if encoding == "utf-8":
            line = body.count(b"\n", 0, error.start) + 1
            what = f"byte 0x{body[error.start]:02x} in line {line}"
        else:
            what = f"nor is it the {encoding[:6].upper()} that its first bytes promise"
        raise DatasetError(f"{name}: is not UTF-8 text ({what}); save the file as UTF-8") from None


def refuse_packed(data: bytes, name: str) -> None:
    """Raise DatasetError, saying how to unpack it, where ``data`` are a compressed file or an archive and no text."""
    for mark, what in _PACKED:
        if data.startswith(mark):
            raise DatasetError(f"{name}: is {what}")


def text_lines(text: str) -> list[str]:
    """The lines of a text, ended by LF, CR LF or CR, without marks that a joined file has inside."""
    return [line.lstrip("\ufeff") for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def parse_json(data: bytes, name: str) -> object:
    """Parse an untrusted JSON document, in any of :func:`decode_text`'s encodings."""
    text = decode_text(data, name)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{name}: is not well-formed JSON ({error}); correct it or export it again") from None


def parse_xml(data: bytes, name: str) -> Element:
    """Parse an untrusted XML document into elements whose names are lower-case and without their namespace.

    The encoding is the declared one, where there is no mark; a declared UTF-16 that plainly is none (programs that
    build the text in memory write so) counts as UTF-8. Entities, which could grow without bound or read files, are
    refused.
    """
    if len(data) > _MAX_XML_BYTES:
        raise DatasetError(f"{name}: has {len(data)} bytes, far too many for an annotation; replace it")
    try:
        root: Element = safe_xml.fromstring(_xml_text(data, name))
    except DefusedXmlException:
        raise DatasetError(f"{name}: declares entities, which are not safe to read; remove them") from None
    except (ParseError, ValueError, LookupError) as error:  # the latter two: an unknown or wrong encoding
        raise DatasetError(f"{name}: is not well-formed XML ({error}); correct it") from None
    for element in root.iter():
        if isinstance(element.tag, str):  # a comment's is a function
            element.tag = element.tag.rpartition("}")[2].lower()
    return root


def _xml_text(data: bytes, name: str) -> str:
    """The document's text, which the parser then takes whatever encoding is declared in it."""
    refuse_packed(data, name)
    data = data.lstrip(b" \t\r\n")  # XML allows nothing before its declaration; editors and scripts do
    declared = _DECLARED.match(data)
    encoding = declared[1].decode().lower().replace("-", "_") if declared else "utf_8"
    if encoding.startswith(("utf", "ucs", "iso_10646")):
        try:
            return decode_text(data, name).lstrip()
        except DatasetError as error:
            reason = error.problems[0].removeprefix(f"{name}: ").removesuffix("; save the file as UTF-8")
            raise DatasetError(
                f"{name}: is not well-formed XML (it {reason}); save it as UTF-8, or declare its encoding"
            ) from None
    encoding = codecs.lookup(encoding).name
    if encoding in _NO_CHARSETS:
        raise LookupError(f"unknown encoding: {encoding}")
    return data.decode(_WIDER.get(encoding, encoding))


class _KeyTwiceError(yaml.YAMLError):
    """A mapping that has a key twice."""


class _EachKeyOnce(yaml.SafeLoader):
    """PyYAML's safe loader, to which a mapping that has a key twice is a :class:`_KeyTwiceError`.

    PyYAML itself would take the last of them in silence.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping as written, before ``<<`` brings in keys that its own ones may override."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue  # a list or mapping as a key is refused by the constructor
            value = self.construct_object(key)
            if value in seen:
                raise _KeyTwiceError(f"line {key.start_mark.line + 1}: has the key {key.value[:40]!r} twice")
            seen.add(value)
        return node


class _AsWritten(_EachKeyOnce):
    """The same, which leaves every plain word the text that it is: ``no``, ``007``, ``12:30``, ``~``."""


_AsWritten.yaml_implicit_resolvers = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}  # merging alone stays


def parse_yaml(data: bytes, name: str, *, typed: bool = False) -> object:
    """Parse an untrusted YAML document into mappings, lists and texts: no word is turned into a number or a truth.

    ``typed``: words are what PyYAML takes them for, as in params.yaml. DatasetError for a document that is not
    well-formed, and for a mapping that has a key twice.
    """
    if len(data) > _MAX_YAML_BYTES:
        raise DatasetError(f"{name}: is not well-formed YAML (it has {len(data)} bytes, far too many); correct it")
    try:
        return yaml.load(decode_text(data, name), _EachKeyOnce if typed else _AsWritten)
    except _KeyTwiceError as error:
        raise DatasetError(f"{name}: {error}; name it once") from None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise DatasetError(f"{name}: is not well-formed YAML ({error}); correct it") from None


# What YAML 1.2, which DVC reads, takes for a number, and YAML 1.1, which PyYAML reads, does not.
_NUMBER_TO_DVC = re.compile(r"0o[0-7_]+|[0-9][0-9_]*\.?[0-9_]*[eE][-+]?[0-9]+")


def is_text_to_yaml(word: str) -> bool:
    """Say whether a word without quotes is a text to YAML, and no number, date, truth or nothing.

    To PyYAML ``no`` is false and ``012`` ten, to DVC ``1e5`` a number: it must be a text to both.
    """
    tag: str = yaml.SafeLoader("").resolve(yaml.ScalarNode, word, (True, False))
    return tag.endswith(":str") and not _NUMBER_TO_DVC.fullmatch(word)


def as_yaml(name: str) -> str:
    """Return a dataset's name as it must stand in params.yaml: in quotes where YAML takes it for another thing."""
    return name if is_text_to_yaml(name) else f'"{name}"'
