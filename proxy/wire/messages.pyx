"""The messages we author, and readers for the small ones we must understand.

Written for the control plane: logins, refusals, what is injected into a server's stream. Rows and
statements never come here; the relay passes them on by their headers alone. Readers take a body
that has been framed and bounded already, and still check every count and terminator in it.

Texts of the protocol are bytes in an encoding nobody has told us yet; they become `str` by UTF-8
with `surrogateescape`, so that what cannot be decoded goes out as it came in.

Source of all layouts: PostgreSQL documentation, "Message Formats".
"""

from asyncpg.pgproto.pgproto cimport WriteBuffer

from proxy.wire.frames cimport int16_at, int32_at
from proxy.wire cimport kinds

from proxy.errors import PeerError

PROTOCOL_3_0 = 0x30000
PROTOCOL_3_2 = 0x30002
CANCEL_REQUEST = 80877102
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104


cdef bytes _encoded(str text):
    return text.encode('utf-8', 'surrogateescape')


cdef str _decoded(bytes raw):
    return raw.decode('utf-8', 'surrogateescape')


cdef bytes _finished(WriteBuffer message):
    return bytes(message.end_message())


def authentication(bytes body not None):
    """AuthenticationXXX. body: what follows the length, the int32 code first."""
    cdef WriteBuffer message = WriteBuffer.new_message(kinds.AUTHENTICATION)
    message.write_bytes(body)
    return _finished(message)


def parameter_status(str name not None, str value not None):
    """ParameterStatus: the server's present value of a reported setting."""
    cdef WriteBuffer message = WriteBuffer.new_message(kinds.PARAMETER_STATUS)
    message.write_bytestring(_encoded(name))
    message.write_bytestring(_encoded(value))
    return _finished(message)


def backend_key_data(int pid, bytes secret not None):
    """BackendKeyData. secret: 4 bytes in protocol 3.0, 4 to 256 in 3.2."""
    cdef WriteBuffer message = WriteBuffer.new_message(kinds.BACKEND_KEY_DATA)
    message.write_int32(pid)
    message.write_bytes(secret)
    return _finished(message)


def ready_for_query(bytes status not None):
    """ReadyForQuery. status: b'I' idle, b'T' in a transaction, b'E' in a failed one."""
    cdef WriteBuffer message = WriteBuffer.new_message(kinds.READY_FOR_QUERY)
    message.write_bytes(status)
    return _finished(message)


def command_complete(bytes tag not None):
    """CommandComplete with its tag, such as b'BEGIN'."""
    cdef WriteBuffer message = WriteBuffer.new_message(kinds.COMMAND_COMPLETE)
    message.write_bytestring(tag)
    return _finished(message)


cdef bytes _fields(char kind, str severity, str sqlstate, str text, str detail, str hint,
                   str routine=None):
    cdef WriteBuffer message = WriteBuffer.new_message(kind)
    for code, value in ((b'S', severity), (b'V', severity), (b'C', sqlstate), (b'M', text),
                        (b'D', detail), (b'H', hint), (b'R', routine)):
        if value is not None:
            message.write_bytes(code)
            # A NUL inside would end the field early and shift the rest.
            message.write_bytestring(_encoded(value.replace('\0', ' ')))
    message.write_byte(0)
    return _finished(message)


def error_response(str sqlstate not None, str text not None, *, str severity='ERROR',
                   str detail=None, str hint=None, str routine=None):
    """ErrorResponse. severity: ERROR, or FATAL when the connection is closed after it.

    routine: the function of PostgreSQL that would have raised it, where drivers look at that.
    """
    return _fields(kinds.ERROR_RESPONSE, severity, sqlstate, text, detail, hint, routine)


def notice_response(str sqlstate not None, str text not None, *, str severity='NOTICE',
                    str detail=None, str hint=None):
    """NoticeResponse. severity: WARNING, NOTICE, INFO, LOG or DEBUG."""
    return _fields(kinds.NOTICE_RESPONSE, severity, sqlstate, text, detail, hint)


def negotiate_protocol_version(int newest, unsupported):
    """NegotiateProtocolVersion.

    newest: the newest version we serve, as in a startup packet (3.2 is 0x30002).
    unsupported: names of `_pq_.` options we do not know, as bytes.
    """
    cdef WriteBuffer message = WriteBuffer.new_message(kinds.NEGOTIATE_PROTOCOL_VERSION)
    message.write_int32(newest)
    message.write_int32(len(unsupported))
    for name in unsupported:
        message.write_bytestring(_encoded(name))
    return _finished(message)


def query(str text not None):
    """Query: a simple-protocol statement."""
    cdef WriteBuffer message = WriteBuffer.new_message(kinds.QUERY)
    message.write_bytestring(_encoded(text))
    return _finished(message)


def password_message(bytes body not None):
    """PasswordMessage, SASLInitialResponse or SASLResponse: they share a type byte."""
    cdef WriteBuffer message = WriteBuffer.new_message(kinds.PASSWORD)
    message.write_bytes(body)
    return _finished(message)


def notification_response(int pid, bytes channel not None, bytes payload not None):
    """NotificationResponse. pid: of the session that sent it; texts in the client's encoding."""
    cdef WriteBuffer message = WriteBuffer.new_message(kinds.NOTIFICATION_RESPONSE)
    message.write_int32(pid)
    message.write_bytestring(channel)
    message.write_bytestring(payload)
    return _finished(message)


def read_notification(bytes body not None):
    """(process id, channel, payload) of a NotificationResponse; texts as bytes. Raises PeerError."""
    parts = body[4:].split(b'\0')
    if len(body) < 4 or len(parts) != 3 or parts[2]:
        raise PeerError('malformed NotificationResponse')
    return int32_at(<const char *>body), parts[0], parts[1]


def startup_message(int version, parameters):
    """StartupMessage. parameters: a mapping of names to values, `user` among them."""
    cdef WriteBuffer body = WriteBuffer.new()
    body.write_int32(version)
    for name, value in parameters.items():
        body.write_bytestring(_encoded(name))
        body.write_bytestring(_encoded(value))
    body.write_byte(0)
    return _untyped(body)


def cancel_request(int pid, bytes secret not None):
    """CancelRequest. secret: as the server gave it in BackendKeyData."""
    cdef WriteBuffer body = WriteBuffer.new()
    body.write_int32(CANCEL_REQUEST)
    body.write_int32(pid)
    body.write_bytes(secret)
    return _untyped(body)


def ssl_request():
    """SSLRequest."""
    cdef WriteBuffer body = WriteBuffer.new()
    body.write_int32(SSL_REQUEST)
    return _untyped(body)


cdef bytes _untyped(WriteBuffer body):
    cdef WriteBuffer packet = WriteBuffer.new()
    packet.write_int32(body.len() + 4)
    packet.write_buffer(body)
    return bytes(packet)


TERMINATE = b'X\x00\x00\x00\x04'


def read_request_code(bytes body not None):
    """The first number of a startup packet: a protocol version or a request code.

    body: the packet after its length. Raises PeerError when it is shorter than the number.
    """
    if len(body) < 4:
        raise PeerError('startup packet is too short')
    return int32_at(body)


def read_startup_parameters(bytes body not None):
    """Names and values of a StartupMessage, in the order sent; a repeated name: the last wins.

    body: the packet after its length, the version first.
    Raises PeerError when a terminator is missing or bytes follow the last one.
    """
    cdef list texts
    if len(body) < 5 or body[len(body) - 1] != 0:
        raise PeerError('startup packet lacks its terminator')
    if len(body) == 5:
        return {}
    if not body.endswith(b'\0\0'):
        raise PeerError('startup packet ends within a parameter')
    texts = body[4:len(body) - 2].split(b'\0')
    if len(texts) % 2:
        raise PeerError('startup packet names a parameter without a value')
    parameters = {}
    for i in range(0, len(texts), 2):
        if not texts[i]:
            raise PeerError('startup packet has an empty parameter name')
        parameters[_decoded(texts[i])] = _decoded(texts[i + 1])
    return parameters


def read_cancel_request(bytes body not None):
    """(process id, secret) of a CancelRequest body, the request code first.

    Raises PeerError unless the secret has 4 to 256 bytes (protocol 3.2).
    """
    if not 12 <= len(body) <= 264:
        raise PeerError('cancel request has a wrong length')
    return int32_at(<const char *>body + 4), body[8:]


def read_parameter_status(bytes body not None):
    """(name, value) of a ParameterStatus. Raises PeerError when a terminator is missing."""
    texts = body.split(b'\0')
    if len(texts) != 3 or texts[2] or not texts[0]:
        raise PeerError('malformed ParameterStatus')
    return _decoded(texts[0]), _decoded(texts[1])


def read_data_row(bytes body not None):
    """The columns of a DataRow, None for NULL. Raises PeerError when counts and lengths disagree."""
    cdef const char *p = body
    cdef Py_ssize_t left = len(body) - 2, length
    cdef int i
    columns = []
    if left < 0:
        raise PeerError('malformed DataRow')
    p += 2
    for i in range(int16_at(<const char *>body)):
        if left < 4:
            raise PeerError('malformed DataRow')
        length = int32_at(p)
        p += 4
        left -= 4
        if length < 0:
            columns.append(None)
            continue
        if length > left:
            raise PeerError('malformed DataRow')
        columns.append(p[:length])
        p += length
        left -= length
    if left:
        raise PeerError('malformed DataRow')
    return columns


def read_backend_key_data(bytes body not None):
    """(process id, secret) of a BackendKeyData. Raises PeerError on a wrong length."""
    if not 8 <= len(body) <= 260:
        raise PeerError('malformed BackendKeyData')
    return int32_at(body), body[4:]


def read_fields(bytes body not None):
    """The fields of an ErrorResponse or NoticeResponse: {code letter: text}.

    Any field may be missing and a missing terminator is forgiven: a server's last words are worth
    reading even when they are cut (PgBouncer CVE-2026-6666 was a crash on such a message).
    """
    fields = {}
    for raw in body.split(b'\0'):
        if raw:
            fields.setdefault(chr(raw[0]), _decoded(raw[1:]))
    return fields


def read_negotiated_version(bytes body not None):
    """The newest protocol version of a NegotiateProtocolVersion, as in a startup packet."""
    if len(body) < 8:
        raise PeerError('malformed NegotiateProtocolVersion')
    version = int32_at(body)
    # Some servers send the minor number alone, as older documentation had it.
    return version if version >= 0x30000 else 0x30000 | version
