"""demo_office.py DIR: two real office documents and a report file, made with the library alone."""
import os
import sys
import zipfile

TOP = sys.argv[1]
WORDS = [f"Erika Mustermann {i}: Ehrennadel in Silber, {1950 + i % 75}" for i in range(400)]
XML = '<?xml version="1.0" encoding="UTF-8"?>'


def archive(name, members):
    """A zip as office programs write it: to a temporary name, then renamed."""
    path = os.path.join(TOP, name)
    with zipfile.ZipFile(path + ".tmp", "w") as z:
        for member, text in members.items():
            how = zipfile.ZIP_STORED if member == "mimetype" else zipfile.ZIP_DEFLATED
            z.writestr(zipfile.ZipInfo(member, (2026, 11, 1, 12, 0, 0)), text, how)
    os.rename(path + ".tmp", path)


ODF = "urn:oasis:names:tc:opendocument:xmlns"
ODT = "application/vnd.oasis.opendocument.text"
archive("Ehrungen 2026.odt", {
    "mimetype": ODT,
    "META-INF/manifest.xml":
        f'{XML}<manifest:manifest xmlns:manifest="{ODF}:manifest:1.0" manifest:version="1.2">'
        f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{ODT}"/>'
        '<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"/>'
        '</manifest:manifest>',
    "content.xml":
        f'{XML}<office:document-content xmlns:office="{ODF}:office:1.0" '
        f'xmlns:text="{ODF}:text:1.0" office:version="1.2"><office:body><office:text>'
        + "".join(f"<text:p>{w}</text:p>" for w in WORDS)
        + "</office:text></office:body></office:document-content>",
})

OOXML = "http://schemas.openxmlformats.org"
MAIN = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
archive("Bericht 2026.docx", {
    "[Content_Types].xml":
        f'{XML}<Types xmlns="{OOXML}/package/2006/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/word/document.xml" ContentType="{MAIN}"/></Types>',
    "_rels/.rels":
        f'{XML}<Relationships xmlns="{OOXML}/package/2006/relationships">'
        f'<Relationship Id="r1" Type="{OOXML}/officeDocument/2006/relationships/officeDocument" '
        'Target="word/document.xml"/></Relationships>',
    "word/document.xml":
        f'{XML}<w:document xmlns:w="{OOXML}/wordprocessingml/2006/main"><w:body>'
        + "".join(f"<w:p><w:r><w:t>{w}</w:t></w:r></w:p>" for w in WORDS)
        + "</w:body></w:document>",
})

with open(os.path.join(TOP, "Meldung 2026.csv"), "w", encoding="utf-8", newline="\r\n") as f:
    f.write("Nr;Name\n" + "".join(f"{i};{w}\n" for i, w in enumerate(WORDS)))
