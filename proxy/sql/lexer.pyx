"""Read a statement's tokens, and write the text all its likes have in common.

One linear pass, no recursion, nothing allocated but the output. The output, the *key*, is again SQL
that PostgreSQL's grammar reads in the same way: comments are gone, there is one space between tokens,
unquoted words are in lower case, a constant is '1' or 1, a list of constants after IN has one of
them, rows of VALUES behind the first are left out if nothing in them can matter, and empty
statements are dropped. So whatever is decided from the key cannot depend on a
constant. The one exception is the name of a setting in set_config() and current_setting(), which is
kept.

Source: PostgreSQL 18, src/backend/parser/scan.l, and psqlscan.l for the ends of statements. Where
PostgreSQL 14 and older read a number with letters behind it as two tokens, this says trouble.
"""

cimport cython
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy

# What a byte may be; see scan.l for the names.
cdef enum Kind:
    SPACE = 1
    NAME_START = 2          # ident_start and dolq_start
    DIGIT = 4
    OPERATOR = 8            # op_chars
    HEX = 16
    IN_NAME = 32            # ident_cont

cdef uint8_t KINDS[256]
cdef uint8_t LOWER[256]


cdef void _fill_tables() noexcept:
    cdef int c
    for c in range(256):
        KINDS[c] = NAME_START if c >= 0x80 else 0
        LOWER[c] = <uint8_t>c
    for c in b' \t\n\r\f\v':
        KINDS[c] |= SPACE
    for c in b'abcdefghijklmnopqrstuvwxyz':
        KINDS[c] |= NAME_START
        KINDS[c - 32] |= NAME_START
        LOWER[c - 32] = <uint8_t>c
    KINDS[95] |= NAME_START
    for c in b'0123456789':
        KINDS[c] |= DIGIT
    for c in b'0123456789abcdefABCDEF':
        KINDS[c] |= HEX
    for c in b'~!@#^&|`?+-*/%<>=':
        KINDS[c] |= OPERATOR
    KINDS[36] |= IN_NAME
    for c in range(256):
        if KINDS[c] & (NAME_START | DIGIT):
            KINDS[c] |= IN_NAME


_fill_tables()

_TROUBLES = {
    HAS_NUL: 'a NUL byte',
    UNREADABLE_ENCODING: 'characters beyond ASCII in an encoding that hides quotes in them',
    UNTERMINATED_COMMENT: 'an unterminated comment',
    UNTERMINATED_STRING: 'an unterminated string',
    UNTERMINATED_DOLLAR_QUOTE: 'an unterminated dollar-quoted string',
    UNTERMINATED_NAME: 'an unterminated quoted name',
    UNBALANCED: 'unbalanced brackets',
    JUNK_AFTER_NUMBER: 'letters right behind a number',
    OUT_OF_MEMORY: 'no memory',
}


cdef inline bint is_kind(char c, uint8_t kinds) noexcept nogil:
    return (KINDS[<uint8_t>c] & kinds) != 0


# --- One token each: from its first byte to the byte behind it, or NULL when it has no end ---

cdef const char *after_line(const char *p, const char *end) noexcept nogil:
    while p < end and p[0] != c'\n' and p[0] != c'\r':
        p += 1
    return p


cdef const char *after_comment(const char *p, const char *end) noexcept nogil:
    """A comment in /* */; they nest."""
    cdef Py_ssize_t depth = 1
    p += 2
    while end - p >= 2:
        if p[0] == c'*' and p[1] == c'/':
            p += 2
            depth -= 1
            if depth == 0:
                return p
        elif p[0] == c'/' and p[1] == c'*':
            p += 2
            depth += 1
        else:
            p += 1
    return NULL


cdef const char *copy_name(const char *p, const char *end, char *to) noexcept nogil:
    """A name without quotes, written in lower case to `to`, which has room for all up to `end`."""
    while p < end and is_kind(p[0], IN_NAME):
        to[0] = <char>LOWER[<uint8_t>p[0]]
        to += 1
        p += 1
    return p


cdef const char *after_quoted_name(const char *p, const char *end) noexcept nogil:
    p += 1
    while p < end:
        p = <const char *>memchr(p, c'"', end - p)
        if p == NULL:
            return NULL
        p += 1
        if p == end or p[0] != c'"':
            return p
        p += 1
    return NULL


cdef const char *after_dollar_quoted(const char *p, const char *end) noexcept nogil:
    """A string in $tag$; `p` itself when this is no beginning of one."""
    cdef const char *body = p + 1
    cdef Py_ssize_t tag
    if body < end and is_kind(body[0], NAME_START):
        body += 1
        while body < end and is_kind(body[0], NAME_START | DIGIT):
            body += 1
    if body == end or body[0] != c'$':
        return p
    body += 1
    tag = body - p
    while end - body >= tag:
        body = <const char *>memchr(body, c'$', end - body)
        if body == NULL or end - body < tag:
            return NULL
        # A tag has no dollar in it, so what was compared is never compared again.
        if memcmp(body, p, tag) == 0:
            return body + tag
        body += 1
    return NULL


cdef const char *where_continued(const char *p, const char *end) noexcept nogil:
    """The quote that continues a string behind a new line; NULL when it ends here.

    Source: quotecontinue in scan.l. Comments in -- may stand between the parts, others not.
    """
    cdef bint on_new_line = False
    while p < end:
        if is_kind(p[0], SPACE):
            on_new_line = on_new_line or p[0] == c'\n' or p[0] == c'\r'
            p += 1
        elif p[0] == c'-' and end - p >= 2 and p[1] == c'-':
            p = after_line(p, end)
        else:
            return p if on_new_line and p[0] == c"'" else NULL
    return NULL


cdef const char *after_string(const char *p, const char *end, bint backslashes,
                              bint doubles) noexcept nogil:
    """A string in single quotes, all its parts; p: its first quote.

    backslashes: they escape. doubles: two quotes are one (not in B'' and X'').
    """
    cdef const char *more
    p += 1
    while p < end:
        if p[0] == c'\\' and backslashes:
            p += 2
        elif p[0] != c"'":
            p += 1
        elif doubles and end - p >= 2 and p[1] == c"'":
            p += 2
        else:
            p += 1
            more = where_continued(p, end)
            if more == NULL:
                return p
            p = more + 1
    return NULL


cdef const char *after_digits(const char *p, const char *end, uint8_t kinds) noexcept nogil:
    """Digits, with single underscores between them."""
    while p < end and (is_kind(p[0], kinds)
                       or p[0] == c'_' and end - p >= 2 and is_kind(p[1], kinds)):
        p += 1
    return p


cdef const char *after_number(const char *p, const char *end) noexcept nogil:
    """A number; p: a digit, or a point with a digit behind it."""
    cdef const char *q
    cdef char base
    if p[0] == c'0' and end - p >= 2:
        base = <char>LOWER[<uint8_t>p[1]]
        if base == c'x' or base == c'o' or base == c'b':
            q = after_digits(p + 2, end, HEX if base == c'x' else DIGIT)
            # Without digits it is a zero with a letter behind it.
            return q if q > p + 2 else p + 1
    p = after_digits(p, end, DIGIT)
    if p < end and p[0] == c'.' and not (end - p >= 2 and p[1] == c'.'):
        p += 1
        if p < end and is_kind(p[0], DIGIT):
            p = after_digits(p, end, DIGIT)
    if p < end and LOWER[<uint8_t>p[0]] == c'e':
        q = p + 1
        if q < end and (q[0] == c'+' or q[0] == c'-'):
            q += 1
        if q < end and is_kind(q[0], DIGIT):
            p = after_digits(q, end, DIGIT)
    return p


cdef const char *after_operator(const char *p, const char *end) noexcept nogil:
    """Operator characters up to where a comment begins.

    PostgreSQL may read several operators in them, and reads the same ones from the key.
    """
    cdef const char *start = p
    while p < end and is_kind(p[0], OPERATOR):
        if p > start and end - p >= 2 and (
                p[0] == c'-' and p[1] == c'-' or p[0] == c'/' and p[1] == c'*'):
            break
        p += 1
    return p


# --- Hints ---

cdef bint starts_with(const char *p, const char *end, const char *word, Py_ssize_t n) noexcept nogil:
    return end - p >= n and memcmp(p, word, n) == 0


cdef void read_hint(const char *p, const char *end, Scan *found) noexcept nogil:
    """Read the inside of a comment: `pgweir:` and parts between commas. Later ones win."""
    cdef const char *part_end
    cdef const char *next_part
    while p < end and is_kind(p[0], SPACE):
        p += 1
    if not starts_with(p, end, 'pgweir:', 7):
        return
    p += 7
    while True:
        next_part = <const char *>memchr(p, c',', end - p)
        part_end = end if next_part == NULL else next_part
        while p < part_end and is_kind(p[0], SPACE):
            p += 1
        while part_end > p and is_kind(part_end[-1], SPACE):
            part_end -= 1
        read_hint_part(p, part_end, found)
        if next_part == NULL:
            return
        p = next_part + 1


cdef void read_hint_part(const char *p, const char *end, Scan *found) noexcept nogil:
    if end - p == 7 and starts_with(p, end, 'primary', 7):
        found.target = TO_PRIMARY
    elif end - p == 7 and starts_with(p, end, 'replica', 7):
        found.target = TO_REPLICA
    elif end - p > 5 and starts_with(p, end, 'role=', 5):
        found.target = TO_ROLE
        found.role = p + 5
        found.role_length = end - p - 5
    elif end - p > 4 and starts_with(p, end, 'key=', 4):
        found.consistency = p + 4
        found.consistency_length = end - p - 4
    else:
        found.odd_hint = True


# --- The pass ---

cdef enum Word:
    OTHER_WORD
    CREATE
    OR
    REPLACE
    ROUTINE         # FUNCTION or PROCEDURE
    BEGIN
    ATOMIC
    CASE
    END
    IN
    AS
    UESCAPE
    OF_SETTING      # set_config or current_setting
    SETTING_NEXT    # the bracket behind it
    VALUES
    PLAIN           # NULL, DEFAULT, TRUE or FALSE
    CAST            # ::


cdef Word word_of(const char *p, Py_ssize_t n) noexcept nogil:
    """The word, in lower case, if it is one that matters here."""
    if n == 2:
        if p[0] == c'i' and p[1] == c'n':
            return IN
        if p[0] == c'o' and p[1] == c'r':
            return OR
        if p[0] == c'a' and p[1] == c's':
            return AS
    elif n == 3:
        if memcmp(p, b'end', 3) == 0:
            return END
    elif n == 4:
        if memcmp(p, b'case', 4) == 0:
            return CASE
        if memcmp(p, b'null', 4) == 0 or memcmp(p, b'true', 4) == 0:
            return PLAIN
    elif n == 5:
        if memcmp(p, b'begin', 5) == 0:
            return BEGIN
        if memcmp(p, b'false', 5) == 0:
            return PLAIN
    elif n == 6:
        if memcmp(p, b'create', 6) == 0:
            return CREATE
        if memcmp(p, b'atomic', 6) == 0:
            return ATOMIC
        if memcmp(p, b'values', 6) == 0:
            return VALUES
    elif n == 7:
        if memcmp(p, b'replace', 7) == 0:
            return REPLACE
        if memcmp(p, b'uescape', 7) == 0:
            return UESCAPE
        if memcmp(p, b'default', 7) == 0:
            return PLAIN
    elif n == 8:
        if memcmp(p, b'function', 8) == 0:
            return ROUTINE
    elif n == 9:
        if memcmp(p, b'procedure', 9) == 0:
            return ROUTINE
    elif n == 10:
        if memcmp(p, b'set_config', 10) == 0:
            return OF_SETTING
    elif n == 15:
        if memcmp(p, b'current_setting', 15) == 0:
            return OF_SETTING
    return OTHER_WORD


cdef bint is_setting(const char *p, const char *end) noexcept nogil:
    """Whether a quoted string may be the name of a setting, as all write it."""
    if end - p > 66:
        return False
    p += 1
    end -= 1
    while p < end:
        if not (is_kind(p[0], NAME_START | DIGIT) or p[0] == c'.'):
            return False
        p += 1
    return True


# Where in its statement the pass is.
ctypedef struct Place:
    Py_ssize_t brackets     # that are open
    Py_ssize_t blocks       # BEGIN ATOMIC and CASE that are open, in CREATE FUNCTION and its like
    uint8_t words           # of the beginning that fit CREATE [OR REPLACE] FUNCTION; 9: none will
    bint routine
    bint owes_semicolon     # a statement has ended and the next has not begun
    bint begun
    Word last_word          # the token before this one
    bint after_dot
    # A list of constants behind IN: the brackets it is in, or 0; the length of the key behind its
    # first constant, or 0 while there is no second; and the tokens up to there.
    Py_ssize_t list_depth
    Py_ssize_t list_key
    Py_ssize_t list_tokens
    # Rows of VALUES: the brackets they are in, or 0; the length of the key behind the last one that
    # stays, or 0 while there is none; the tokens up to there.
    Py_ssize_t rows_depth
    Py_ssize_t rows_key
    Py_ssize_t rows_tokens
    bint row_is_flat        # it begins with a constant, and has no brackets: no function, no query
    bint in_new_row         # behind the bracket that begins one
    bint between_rows       # behind a row
    bint before_row         # behind the comma behind a row


cdef void count_word(Place *at, Word word) noexcept nogil:
    """Follow CREATE [OR REPLACE] FUNCTION … BEGIN ATOMIC … CASE … END … END."""
    if not at.routine and at.words < 9:
        if at.words == 0 and word == CREATE or at.words == 1 and word == OR \
                or at.words == 2 and word == REPLACE:
            at.words += 1
        elif word == ROUTINE and (at.words == 1 or at.words == 3):
            at.routine = True
        else:
            at.words = 9
        return
    if not at.routine or at.brackets or at.last_word == AS:
        return
    if word == ATOMIC and at.last_word == BEGIN or word == CASE and at.blocks:
        at.blocks += 1
    elif word == END and at.blocks:
        at.blocks -= 1


cdef void follow_list(Place *at, Scan *found, char c, Word word, bint is_constant,
                      Py_ssize_t before) noexcept nogil:
    """Shorten a list of constants behind IN to its first.

    Called for each token, `before` being the length of the key before it. A constant may be cast to
    a type of one word.
    """
    if c == c'(' and at.last_word == IN:
        at.list_depth = at.brackets
        at.list_key = 0
    elif at.list_depth == 0 or is_constant or word == CAST or at.last_word == CAST:
        pass
    elif c == c',':
        if at.list_key == 0:
            at.list_key = before
            at.list_tokens = found.tokens - 1
    else:
        if c == c')' and at.list_key and at.brackets == at.list_depth - 1:
            found.length = at.list_key
            put(found, b' )', 2)
            found.tokens = at.list_tokens + 1
        at.list_depth = 0


cdef void follow_rows(Place *at, Scan *found, char c, Word word, bint is_constant) noexcept nogil:
    """Leave out the rows of VALUES that are flat, but for the first. Called for each token.

    It may be no VALUES but an alias: FROM t values (a), (SELECT …). Those do not begin with a constant.
    """
    if c == c'(' and at.last_word == VALUES:
        at.rows_depth = at.brackets
        at.rows_key = 0
        at.in_new_row = at.between_rows = at.before_row = False
    elif at.rows_depth == 0:
        pass
    elif at.before_row:
        at.before_row = False
        at.in_new_row = True
        if c != c'(':
            at.rows_depth = 0
    elif at.brackets >= at.rows_depth:
        if at.in_new_row:
            at.in_new_row = False
            at.row_is_flat = is_constant or word == PLAIN or is_kind(c, OPERATOR)
        if c == c'(' or c == c'[':
            at.row_is_flat = False
    elif not at.between_rows and c == c')':
        # The bracket that ends a row.
        if at.rows_key and at.row_is_flat and not at.in_new_row:
            found.length = at.rows_key
            found.tokens = at.rows_tokens
        else:
            at.rows_key = found.length
            at.rows_tokens = found.tokens
        at.between_rows = True
    elif at.between_rows and c == c',':
        at.between_rows = False
        at.before_row = True
    else:
        at.rows_depth = 0


cdef inline void put(Scan *found, const char *p, Py_ssize_t n) noexcept nogil:
    # `scan` made room for twice the text: a token needs its bytes and a space; and '1' stands for ''.
    memcpy(found.key + found.length, p, n)
    found.length += n


cdef bint note_start(Scan *found, Py_ssize_t start, bint spans) noexcept nogil:
    """Count a statement; False when there is no memory for its span."""
    cdef Py_ssize_t size
    cdef Span *larger
    if spans:
        if found.statements == found.spans_size:
            size = found.spans_size * 2 + 4
            larger = <Span *>realloc(found.spans, size * sizeof(Span))
            if larger == NULL:
                return False
            found.spans = larger
            found.spans_size = size
        found.spans[found.statements].start = start
    found.statements += 1
    return True


cdef bint make_room(Scan *found, Py_ssize_t length) noexcept nogil:
    cdef char *larger
    cdef Py_ssize_t size = 2 * length + 16
    if found.size >= size:
        return True
    larger = <char *>malloc(size)
    if larger == NULL:
        return False
    free(found.key)
    found.key = larger
    found.size = size
    return True


cdef bint has_high_bytes(const char *p, const char *end) noexcept nogil:
    while p < end:
        if <uint8_t>p[0] >= 0x80:
            return True
        p += 1
    return False


cdef int scan(const char *text, Py_ssize_t length, int options, Scan *found) noexcept nogil:
    """Read `length` bytes of text into `found`; the Trouble is the result, too."""
    found.length = 0
    found.statements = 0
    found.tokens = 0
    found.depth = 0
    found.target = NO_TARGET
    found.odd_hint = False
    found.role = NULL
    found.role_length = 0
    found.consistency = NULL
    found.consistency_length = 0
    if not make_room(found, length):
        found.trouble = OUT_OF_MEMORY
    elif memchr(text, 0, length) != NULL:
        found.trouble = HAS_NUL
    elif options & AMBIGUOUS_ENCODING and has_high_bytes(text, text + length):
        found.trouble = UNREADABLE_ENCODING
    else:
        found.trouble = read_tokens(text, length, options, found)
    return found.trouble


cdef Trouble read_tokens(const char *text, Py_ssize_t length, int options, Scan *found) noexcept nogil:
    cdef const char *p = text
    cdef const char *end = text + length
    cdef const char *after
    cdef const char *last_end = text
    cdef const char *constant
    cdef Py_ssize_t constant_length, before
    cdef Place at
    cdef Word word
    cdef char c, lower
    cdef bint is_dot
    cdef bint spans = options & SPANS
    cdef bint backslashes = options & BACKSLASHES
    at.brackets = at.blocks = at.list_depth = at.rows_depth = 0
    at.words = 0
    at.routine = at.owes_semicolon = at.begun = at.after_dot = False
    at.last_word = OTHER_WORD
    while p < end:
        c = p[0]
        if is_kind(c, SPACE):
            p += 1
            continue
        if c == c'-' and end - p >= 2 and p[1] == c'-':
            p = after_line(p, end)
            continue
        if c == c'/' and end - p >= 2 and p[1] == c'*':
            after = after_comment(p, end)
            if after == NULL:
                return UNTERMINATED_COMMENT
            if found.tokens == 0:
                read_hint(p + 2, after - 2, found)
            p = after
            continue
        if c == c';' and at.brackets == 0:
            if at.begun and at.blocks == 0:
                at.begun = at.routine = False
                at.words = 0
                if spans:
                    found.spans[found.statements - 1].end = last_end - text
            at.owes_semicolon = found.length > 0
            at.last_word = OTHER_WORD
            at.after_dot = False
            at.rows_depth = 0
            p += 1
            continue

        # A token of a statement.
        if not at.begun:
            at.begun = True
            if not note_start(found, p - text, spans):
                return OUT_OF_MEMORY
        if at.owes_semicolon:
            at.owes_semicolon = False
            put(found, b' ;', 2)
        before = found.length
        if found.length:
            put(found, b' ', 1)
        found.tokens += 1
        word = OTHER_WORD
        is_dot = False
        constant = NULL
        constant_length = 0

        if is_kind(c, NAME_START):
            lower = <char>LOWER[<uint8_t>c]
            after = NULL
            if end - p >= 2 and p[1] == c"'" and (
                    lower == c'e' or lower == c'b' or lower == c'x' or lower == c'n'):
                after = after_string(p + 1, end, lower == c'e' or lower == c'n' and backslashes,
                                     lower == c'e' or lower == c'n')
                if after == NULL:
                    return UNTERMINATED_STRING
                if lower == c'e':
                    constant, constant_length = b"'1'", 3
                elif lower == c'b':
                    constant, constant_length = b"b'1'", 4
                elif lower == c'x':
                    constant, constant_length = b"x'1'", 4
                else:
                    constant, constant_length = b"n'1'", 4
            elif lower == c'u' and end - p >= 3 and p[1] == c'&' and p[2] == c"'":
                after = after_string(p + 2, end, False, True)
                if after == NULL:
                    return UNTERMINATED_STRING
                # Kept as such: UESCAPE may follow.
                constant, constant_length = b"u&'1'", 5
            elif lower == c'u' and end - p >= 3 and p[1] == c'&' and p[2] == c'"':
                after = after_quoted_name(p + 2, end)
                if after == NULL:
                    return UNTERMINATED_NAME
                put(found, p, after - p)
            else:
                after = copy_name(p, end, found.key + found.length)
                word = word_of(found.key + found.length, after - p)
                if not at.after_dot:
                    count_word(&at, word)
                elif word != OF_SETTING:
                    # Behind a dot even IN and END are plain names.
                    word = OTHER_WORD
                found.length += after - p
        elif c == c"'":
            after = after_string(p, end, backslashes, True)
            if after == NULL:
                return UNTERMINATED_STRING
            if at.last_word == SETTING_NEXT and is_setting(p, after) \
                    or at.last_word == UESCAPE and after - p == 3:
                # An escape character is part of how names are read.
                put(found, p, after - p)
            else:
                constant, constant_length = b"'1'", 3
        elif c == c'"':
            after = after_quoted_name(p, end)
            if after == NULL:
                return UNTERMINATED_NAME
            put(found, p, after - p)
        elif is_kind(c, DIGIT) or c == c'.' and end - p >= 2 and is_kind(p[1], DIGIT):
            after = after_number(p, end)
            if after < end and is_kind(after[0], NAME_START):
                return JUNK_AFTER_NUMBER
            constant, constant_length = b'1', 1
        elif c == c'$' and end - p >= 2 and is_kind(p[1], DIGIT):
            after = p + 1
            while after < end and is_kind(after[0], DIGIT):
                after += 1
            if after < end and is_kind(after[0], NAME_START):
                return JUNK_AFTER_NUMBER
            constant, constant_length = p, after - p
        elif c == c'$':
            after = after_dollar_quoted(p, end)
            if after == NULL:
                return UNTERMINATED_DOLLAR_QUOTE
            if after > p:
                constant, constant_length = b"'1'", 3
            else:
                # Nothing in PostgreSQL's grammar, which will say so.
                after = p + 1
                put(found, p, 1)
        elif is_kind(c, OPERATOR):
            after = after_operator(p, end)
            put(found, p, after - p)
        else:
            after = p + 1
            if c == c'(' or c == c'[':
                if at.last_word == OF_SETTING:
                    word = SETTING_NEXT
                at.brackets += 1
                if at.brackets > found.depth:
                    found.depth = at.brackets
            elif c == c')' or c == c']':
                if at.brackets == 0:
                    return UNBALANCED
                at.brackets -= 1
            elif c == c':' and end - p >= 2 and (p[1] == c':' or p[1] == c'='):
                after = p + 2
                if p[1] == c':':
                    word = CAST
            elif c == c'.':
                is_dot = True
                if end - p >= 2 and p[1] == c'.':
                    after = p + 2
            put(found, p, after - p)

        if constant != NULL:
            put(found, constant, constant_length)
        follow_list(&at, found, c, word, constant != NULL, before)
        follow_rows(&at, found, c, word, constant != NULL)
        at.last_word = word
        at.after_dot = is_dot
        last_end = p = after

    if at.brackets:
        return UNBALANCED
    if at.begun and spans:
        found.spans[found.statements - 1].end = last_end - text
    return NO_TROUBLE


cdef void free_scan(Scan *found) noexcept nogil:
    free(found.key)
    free(found.spans)
    found.key = NULL
    found.spans = NULL
    found.size = found.spans_size = 0


# --- For Python ---

@cython.final
cdef class Lexed:
    """What the lexer found in a text."""

    cdef readonly bytes key
    cdef readonly tuple spans
    cdef readonly Py_ssize_t tokens
    cdef readonly Py_ssize_t depth
    cdef readonly str trouble
    cdef readonly str target
    cdef readonly str role
    cdef readonly str consistency_key
    cdef readonly bint has_odd_hint


def lex(bytes text not None, *, bint backslashes=False, bint ambiguous_encoding=False):
    """Read a text.

    backslashes: standard_conforming_strings is off.
    ambiguous_encoding: bytes of the client's encoding may look like ASCII and be none.
    Result: `trouble` says why the text cannot be read, or is None; with trouble, only the hint
    means anything. `spans`: where in the text each statement begins and ends. `target`: where a
    leading hint asks to go: primary, replica, or role, with its name in `role`.
    """
    cdef Scan found
    cdef Lexed lexed = Lexed.__new__(Lexed)
    cdef int options = SPANS
    cdef Py_ssize_t i
    if backslashes:
        options |= BACKSLASHES
    if ambiguous_encoding:
        options |= AMBIGUOUS_ENCODING
    found.key = NULL
    found.spans = NULL
    found.size = found.spans_size = 0
    try:
        scan(text, len(text), options, &found)
        lexed.target = (None, 'primary', 'replica', 'role')[found.target]
        if found.role != NULL:
            lexed.role = found.role[:found.role_length].decode('utf-8', 'surrogateescape')
        if found.consistency != NULL:
            lexed.consistency_key = found.consistency[:found.consistency_length].decode(
                'utf-8', 'surrogateescape')
        lexed.has_odd_hint = found.odd_hint
        lexed.trouble = _TROUBLES.get(found.trouble)
        if found.trouble:
            lexed.key = b''
            lexed.spans = ()
            return lexed
        lexed.key = found.key[:found.length]
        lexed.tokens = found.tokens
        lexed.depth = found.depth
        lexed.spans = tuple([(found.spans[i].start, found.spans[i].end)
                             for i in range(found.statements)])
        return lexed
    finally:
        free_scan(&found)
