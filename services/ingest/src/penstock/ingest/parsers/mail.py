"""E-mail by the standard library: who, when, what about, the body, the names of attachments."""

from email import message_from_bytes, policy
from email.errors import MessageError
from email.message import EmailMessage

from penstock.ingest.detect import Detected
from penstock.ingest.document import DocumentBuilder, Parsed
from penstock.ingest.failures import Unreadable
from penstock.ingest.parsers.html import add_html

_FIELDS = ("From", "To", "Cc", "Date")
_MAX_NESTING = 5


def parse_email(data: bytes, detected: Detected) -> Parsed:  # noqa: ARG001
    builder = DocumentBuilder()
    try:
        message = message_from_bytes(data, policy=policy.default)
        _add_message(builder, message, 1)
        subject = str(message.get("Subject", ""))
    except (MessageError, LookupError, ValueError) as error:
        raise Unreadable(f"The e-mail cannot be read: {error}.", type="damaged") from error
    return builder.build("email", subject)


def _add_message(builder: DocumentBuilder, message: EmailMessage, depth: int) -> None:
    builder.heading(str(message.get("Subject", "")), depth)
    builder.items(f"{name}: {message[name]}" for name in _FIELDS if message[name])
    body = message.get_body(("plain", "html"))
    if isinstance(body, EmailMessage):
        content = body.get_content()
        if body.get_content_subtype() == "html":
            add_html(builder, content)
        else:
            builder.paragraph(content)
    names = []
    for part in message.iter_attachments():
        if part.get_content_type() == "message/rfc822" and depth < _MAX_NESTING:
            inner = part.get_content()
            if isinstance(inner, EmailMessage):
                _add_message(builder, inner, depth + 1)
        elif part.get_filename():
            names.append(str(part.get_filename()))
    if names:
        builder.paragraph(f"Attachments: {', '.join(names)}")
