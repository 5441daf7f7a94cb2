# PostgreSQL's lexical rules, as one pass over a text.
#
# Here for the relay as well: `scan` takes bytes where they lie and writes into a buffer that is kept
# from one statement to the next, so a statement seen before costs neither Python nor an allocation.

from libc.stdint cimport uint8_t


cdef enum Option:
    # standard_conforming_strings is off: a backslash escapes in plain quotes, too.
    BACKSLASHES = 1
    # In the client's encoding the second byte of a character may look like ASCII (SJIS, BIG5, GBK,
    # UHC, GB18030, JOHAB, SHIFT_JIS_2004): a text that is not plain ASCII cannot be read.
    AMBIGUOUS_ENCODING = 2
    # Note where each statement begins and ends.
    SPANS = 4


cdef enum Trouble:
    NO_TROUBLE
    HAS_NUL
    UNREADABLE_ENCODING
    UNTERMINATED_COMMENT
    UNTERMINATED_STRING
    UNTERMINATED_DOLLAR_QUOTE
    UNTERMINATED_NAME
    UNBALANCED
    JUNK_AFTER_NUMBER
    OUT_OF_MEMORY


cdef enum Target:
    NO_TARGET
    TO_PRIMARY
    TO_REPLICA
    TO_ROLE


ctypedef struct Span:
    Py_ssize_t start
    Py_ssize_t end


# What a scan found. Zeroed before its first use; `free_scan` after its last.
ctypedef struct Scan:
    char *key               # the normalised text; not terminated
    Py_ssize_t length
    Py_ssize_t size
    Span *spans             # with SPANS: one for each statement
    Py_ssize_t spans_size
    Py_ssize_t statements
    Py_ssize_t tokens       # in the key
    Py_ssize_t depth        # of brackets within brackets
    uint8_t trouble         # a Trouble; when there is one, only the hint means anything
    uint8_t target          # of the leading hint
    bint odd_hint           # a part of a hint was none
    const char *role        # within the text, while the text is there
    Py_ssize_t role_length
    const char *consistency # the value of key=
    Py_ssize_t consistency_length


cdef int scan(const char *text, Py_ssize_t length, int options, Scan *found) noexcept nogil
cdef void free_scan(Scan *found) noexcept nogil
