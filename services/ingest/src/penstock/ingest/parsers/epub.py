"""EPUB: the pages of its spine in order, each read as HTML."""

import posixpath
import zipfile
from io import BytesIO
from urllib.parse import unquote

from penstock.ingest.detect import ARCHIVE_ERRORS, Detected
from penstock.ingest.document import DocumentBuilder, Parsed
from penstock.ingest.failures import Unreadable
from penstock.ingest.parsers.html import add_html
from penstock.ingest.parsers.xmltree import XmlElement, XmlError, read_xml


def parse_epub(data: bytes, detected: Detected) -> Parsed:  # noqa: ARG001
    builder = DocumentBuilder()
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            package_path = _package_path(archive)
            package = read_xml(archive.read(package_path))
            pages = _spine(package, posixpath.dirname(package_path))
            names = set(archive.namelist())
            for page in pages:
                if page in names:
                    add_html(builder, archive.read(page).decode("utf-8", "replace"))
    except (*ARCHIVE_ERRORS, XmlError) as error:
        raise Unreadable(f"The EPUB is damaged: {error}.", type="damaged") from error
    title = package.find(".//{*}metadata/{*}title")
    return builder.build("epub", title.text if title is not None else None)


def _package_path(archive: zipfile.ZipFile) -> str:
    container = read_xml(archive.read("META-INF/container.xml"))
    root = container.find(".//{*}rootfile")
    path = root.get("full-path") if root is not None else None
    if path is None:
        raise KeyError("META-INF/container.xml names no package")
    return str(path)


def _spine(package: XmlElement, folder: str) -> list[str]:
    files = {item.get("id"): item.get("href") or "" for item in package.iter("{*}item")}
    order = (ref.get("idref") for ref in package.iter("{*}itemref"))
    return [
        posixpath.normpath(posixpath.join(folder, unquote(files[ref])))
        for ref in order
        if ref in files
    ]
