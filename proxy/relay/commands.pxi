# The handful of statements that the relay answers itself or must take note of.
#
# Recognised only when they are the whole text, without comments, in exactly the grammar below;
# everything else is PLAIN and goes to the server as it came. So a miss costs a round trip at most,
# and a hit can never be something else. Source: PostgreSQL documentation, SQL commands BEGIN,
# START TRANSACTION, COMMIT, END, ROLLBACK, ABORT, DEALLOCATE, SET.

cdef enum Command:
    PLAIN = 0
    BEGIN = 1
    START_TRANSACTION = 2
    COMMIT = 3
    ROLLBACK = 4
    DEALLOCATE = 5
    DISCARD = 6     # passed on; it may end prepared statements
    OWN_SETTING = 7 # SET, RESET or SHOW of a setting of ours: see routing.pxi

# What a statement leaves behind in its session, as far as its CommandComplete tag tells.
cdef enum Effect:
    SETTINGS_TOUCHED = 1
    LISTENING = 2
    SESSION_TOUCHED = 4
    # Set for a statement whose SET ends with its transaction (SET LOCAL, SET TRANSACTION …), and for
    # one that calls set_config() so.
    ENDS_WITH_TRANSACTION = 8
    # Set for what an aborted transaction still accepts: COMMIT, ROLLBACK TO a savepoint and such.
    LEAVES_ABORTED = 16
    # Set for a text that may say which settings it touches: it is read before it is sent.
    NAMES_SETTINGS = 32
    # Set for a text that may take settings back to their defaults.
    GOES_BACK = 64
    # Set for a text that may leave something in the session that cannot be carried elsewhere.
    MAY_PIN = 128
    # PREPARE or DEALLOCATE was run.
    STATEMENTS_TOUCHED = 256
    # Set for a text that may speak of a prepared statement by its name.
    NAMES_STATEMENTS = 512
    # Set for a text that may look at all prepared statements.
    SHOWS_STATEMENTS = 1024
    # Set for a text that may LISTEN or UNLISTEN.
    LISTENS = 2048
    # Set for a text with a call of what the configuration names as a session function.
    CALLS_SESSION_FUNCTION = 4096
    # Set for EXPLAIN POOLING.
    EXPLAINS = 8192
    # Set for a text with nextval or setval, and for one with currval or lastval.
    USES_SEQUENCE = 16384
    TELLS_SEQUENCE = 32768
    # What a text may leave of which nothing is known. It is asked for, and undone before anybody
    # else gets the server connection, as not all of it can be asked for.
    ALL_LEFT = 1 | 2 | 4 | 128 | 256
    # What the session is asked about before its client goes on; so, all that can be asked for, which a
    # function that executes a text may leave. Who loses it before is told.
    LEFT_IN_SESSION = 1 | 2 | 128 | 256


cdef struct Words:
    const char *p
    const char *end
    const char *word
    Py_ssize_t length


cdef inline bint is_space(char c) noexcept nogil:
    return c == 32 or (9 <= c <= 13)


cdef inline bint is_letter(char c) noexcept nogil:
    return (97 <= (c | 32) <= 122) or c == 95


cdef void next_word(Words *w) noexcept nogil:
    """Move to the next run of letters; length 0 when something else comes first."""
    while w.p < w.end and is_space(w.p[0]):
        w.p += 1
    w.word = w.p
    while w.p < w.end and is_letter(w.p[0]):
        w.p += 1
    w.length = w.p - w.word


cdef inline bint is_word(Words *w, const char *upper) noexcept nogil:
    return w.length == <Py_ssize_t>strlen(upper) and strncasecmp(w.word, upper, w.length) == 0


cdef bint at_end(Words *w) noexcept nogil:
    """Only white space and one semicolon are left."""
    cdef bint semicolon = False
    while w.p < w.end:
        if w.p[0] == 59 and not semicolon:
            semicolon = True
        elif not is_space(w.p[0]):
            return False
        w.p += 1
    return True


cdef bint are_transaction_modes(Words *w) noexcept nogil:
    """Nothing, or transaction modes with optional commas, up to the end."""
    while True:
        next_word(w)
        if w.length == 0:
            w.p = w.word
            return at_end(w)
        if is_word(w, b'ISOLATION'):
            next_word(w)
            if not is_word(w, b'LEVEL'):
                return False
            next_word(w)
            if is_word(w, b'REPEATABLE'):
                next_word(w)
                if not is_word(w, b'READ'):
                    return False
            elif is_word(w, b'READ'):
                next_word(w)
                if not (is_word(w, b'COMMITTED') or is_word(w, b'UNCOMMITTED')):
                    return False
            elif not is_word(w, b'SERIALIZABLE'):
                return False
        elif is_word(w, b'READ'):
            next_word(w)
            if not (is_word(w, b'ONLY') or is_word(w, b'WRITE')):
                return False
        else:
            if is_word(w, b'NOT'):
                next_word(w)
            if not is_word(w, b'DEFERRABLE'):
                return False
        while w.p < w.end and is_space(w.p[0]):
            w.p += 1
        if w.p < w.end and w.p[0] == 44:
            w.p += 1
            next_word(w)
            if w.length == 0:
                return False
            w.p = w.word


cdef bint is_plain_ending(Words *w) noexcept nogil:
    """[WORK | TRANSACTION] [AND NO CHAIN], up to the end."""
    next_word(w)
    if is_word(w, b'WORK') or is_word(w, b'TRANSACTION'):
        next_word(w)
    if is_word(w, b'AND'):
        next_word(w)
        if not is_word(w, b'NO'):
            return False
        next_word(w)
        if not is_word(w, b'CHAIN'):
            return False
        next_word(w)
    if w.length:
        return False
    return at_end(w)


cdef Command command_of(const char *text, Py_ssize_t length) noexcept nogil:
    """What the whole text is. text: without its terminating NUL."""
    cdef Words w
    cdef char first
    w.p = text
    w.end = text + length
    while w.p < w.end and is_space(w.p[0]):
        w.p += 1
    if w.p == w.end:
        return PLAIN
    first = w.p[0] | 32
    # b c r e a d s: most statements are SELECT, INSERT or UPDATE and stop here.
    if (first == 115 or first == 114) and is_own_command(w.p, w.end - w.p):
        return OWN_SETTING
    if first == 115:
        if w.end - w.p < 5 or (w.p[1] | 32) != 116:
            return PLAIN
    elif not (first == 98 or first == 99 or first == 114 or first == 101 or first == 97
              or first == 100):
        return PLAIN
    next_word(&w)
    if is_word(&w, b'BEGIN'):
        next_word(&w)
        if not (is_word(&w, b'WORK') or is_word(&w, b'TRANSACTION')):
            w.p = w.word
        return BEGIN if are_transaction_modes(&w) else PLAIN
    if is_word(&w, b'START'):
        next_word(&w)
        if not is_word(&w, b'TRANSACTION'):
            return PLAIN
        return START_TRANSACTION if are_transaction_modes(&w) else PLAIN
    if is_word(&w, b'COMMIT') or is_word(&w, b'END'):
        return COMMIT if is_plain_ending(&w) else PLAIN
    if is_word(&w, b'ROLLBACK') or is_word(&w, b'ABORT'):
        return ROLLBACK if is_plain_ending(&w) else PLAIN
    if is_word(&w, b'DEALLOCATE'):
        return DEALLOCATE
    if is_word(&w, b'DISCARD'):
        return DISCARD
    return PLAIN


cdef bint has_word(const char *text, Py_ssize_t length, const char *word, Py_ssize_t n,
                   Py_ssize_t rarest=0) noexcept nogil:
    """Does the text contain the word (lower case, its length n), in any case?

    rarest: which of its letters is looked for first.
    """
    cdef const char *p = text + rarest
    cdef const char *low
    cdef const char *end = text + length - n + 1 + rarest
    cdef char letter = word[rarest]
    while p < end:
        # Most texts have few of a letter: let memchr skip what lies between.
        low = <const char *>memchr(p, letter, end - p)
        if low == NULL:
            low = end
        p = <const char *>memchr(p, letter - 32, low - p)
        if p == NULL:
            p = low
        if p < end and reads_as(p - rarest, word, n):
            return True
        p += 1
    return False


cdef inline bint reads_as(const char *text, const char *word, Py_ssize_t n) noexcept nogil:
    """Are these n letters the word, in any case? word: in lower case."""
    cdef Py_ssize_t i
    for i in range(n):
        if text[i] != word[i] and (text[i] | 32) != word[i]:
            return False
    return True


cdef inline bint is_notify(const char *text, Py_ssize_t length) noexcept nogil:
    """Does the text begin with NOTIFY?"""
    return length > 6 and reads_as(text, b'notify', 6) and not is_letter(text[6])


cdef inline bint may_pin(const char *text, Py_ssize_t length) noexcept nogil:
    """Temporary tables, session advisory locks, cursors WITH HOLD: do their words occur?"""
    return (has_word(text, length, b'advisory', 8, 2) or has_word(text, length, b'temp', 4, 2)
            or has_word(text, length, b'hold', 4))


cdef uint16_t effect_of(const char *text, Py_ssize_t length) noexcept nogil:
    """MAY_PIN, what settings_effect_of says, and what statements_effect_of does."""
    return 0 if says_nothing(text, length) else full_effect_of(text, length)


def effects(bytes text not None):
    """What effect_of says of a text, and what the words say one by one: never two things."""
    return effect_of(text, len(text)), full_effect_of(text, len(text))


cdef uint16_t full_effect_of(const char *text, Py_ssize_t length) noexcept nogil:
    """As effect_of, one word after the other: a dozen looks at the text."""
    cdef uint16_t effect = (settings_effect_of(text, length) | statements_effect_of(text, length)
                            | sequences_effect_of(text, length))
    return effect | MAY_PIN if may_pin(text, length) else effect


cdef extern from *:
    """
    #ifdef __SSE2__
    #include <emmintrin.h>

    /* A bit for each of 16 bytes: is it one of the letters that next_rare looks for? */
    static inline unsigned int rare_among(const char *p) {
        const __m128i piece = _mm_loadu_si128((const __m128i *)p);
        const __m128i lower = _mm_or_si128(piece, _mm_set1_epi8(32));
        __m128i met = _mm_cmpeq_epi8(lower, _mm_set1_epi8('v'));
        met = _mm_or_si128(met, _mm_cmpeq_epi8(lower, _mm_set1_epi8('m')));
        met = _mm_or_si128(met, _mm_cmpeq_epi8(lower, _mm_set1_epi8('h')));
        met = _mm_or_si128(met, _mm_cmpeq_epi8(piece, _mm_set1_epi8('_')));
        met = _mm_or_si128(met, _mm_cmpeq_epi8(piece, _mm_set1_epi8(';')));
        return (unsigned int)_mm_movemask_epi8(met);
    }
    #endif

    static const unsigned char RARE[256] = {
        [';'] = 1, ['_'] = 1, ['V'] = 1, ['v'] = 1, ['M'] = 1, ['m'] = 1, ['H'] = 1, ['h'] = 1,
    };

    /* The first of the letters by which says_nothing finds what a text may say, from p on; or end. */
    static inline const char *next_rare(const char *text, const char *p, const char *end) {
    #ifdef __SSE2__
        unsigned int met;
        for (; end - p >= 16; p += 16) {
            met = rare_among(p);
            if (met)
                return p + __builtin_ctz(met);
        }
        if (end - text >= 16) {
            /* The rest is looked at together with what comes before it. */
            met = rare_among(end - 16) >> (16 - (end - p));
            return met ? p + __builtin_ctz(met) : end;
        }
    #endif
        while (p < end && !RARE[(unsigned char)*p])
            p++;
        return p;
    }
    """
    const char *next_rare(const char *text, const char *p, const char *end) nogil


cdef bint says_nothing(const char *text, Py_ssize_t length) noexcept nogil:
    """Is it plain that the effect is 0? In doubt it is not.

    One look, for what nearly all statements are: each word that full_effect_of knows, wherever in
    the text it counts, is found by a letter of it that few others have.
    """
    cdef const char *p = text
    cdef const char *end = text + length
    while p < end and is_space(p[0]):
        p += 1
    if not (begins_with(p, end, b'select', 6) or begins_with(p, end, b'insert', 6)
            or begins_with(p, end, b'update', 6) or begins_with(p, end, b'delete', 6)
            or begins_with(p, end, b'with', 4)):
        return False
    # No word that counts begins in the first three letters of these.
    p += 3
    while True:
        p = next_rare(text, p, end)
        if p == end:
            return True
        if may_say(p, end):
            return False
        p += 1


cdef bint may_say(const char *p, const char *end) noexcept nogil:
    """Is the RARE letter at p, with two letters or more before it, one of a word that counts?"""
    cdef char before = p[-1] | 32
    cdef char letter = p[0] | 32
    if letter == 118:
        # advisory; nextval, setval, lastval and currval
        return before == 100 and begins_with(p + 1, end, b'i', 1) or (
            (before == 116 or before == 114 and p[-2] | 32 == 114)
            and begins_with(p + 1, end, b'al', 2))
    if letter == 109:
        # temp
        return before == 101 and p[-2] | 32 == 116 and begins_with(p + 1, end, b'p', 1)
    if letter == 104:
        return begins_with(p + 1, end, b'old', 3)
    if p[0] == 95:
        # set_config, pg_prepared_statements
        return (before == 116 and begins_with(p + 1, end, b'c', 1)
                or before == 103 and begins_with(p + 1, end, b'p', 1))
    # Behind a semicolon anything may follow, unless it is the end.
    p += 1
    while p < end and (is_space(p[0]) or p[0] == 0):
        p += 1
    return p < end


cdef inline bint begins_with(const char *text, const char *end, const char *word,
                             Py_ssize_t n) noexcept nogil:
    """Are the n letters of the word (in lower case) the next, in any case?"""
    return end - text >= n and reads_as(text, word, n)


cdef uint16_t sequences_effect_of(const char *text, Py_ssize_t length) noexcept nogil:
    """USES_SEQUENCE, TELLS_SEQUENCE: nextval, setval; currval, lastval. Few texts have a v."""
    cdef const char *p = text + 3
    cdef const char *end = text + length - 2
    cdef const char *low
    cdef uint16_t effect = 0
    while p < end:
        low = <const char *>memchr(p, 118, end - p)
        if low == NULL:
            low = end
        p = <const char *>memchr(p, 86, low - p)
        if p == NULL:
            p = low
        if p < end and (p[1] | 32) == 97 and (p[2] | 32) == 108 and reads_as(p - 1, b't', 1):
            if reads_as(p - 3, b'set', 3) or p - text >= 4 and reads_as(p - 4, b'next', 4):
                effect |= USES_SEQUENCE
            elif p - text >= 4 and reads_as(p - 4, b'last', 4):
                effect |= TELLS_SEQUENCE
        elif p < end and p - text >= 4 and reads_as(p - 4, b'currval', 7):
            effect |= TELLS_SEQUENCE
        p += 1
    return effect


cdef uint16_t statements_effect_of(const char *text, Py_ssize_t length) noexcept nogil:
    """SHOWS_STATEMENTS for a text with pg_prepared_statements in it; NAMES_STATEMENTS for PREPARE,
    EXECUTE and DEALLOCATE, and for those among several statements; LISTENS likewise; EXPLAINS."""
    cdef Words w
    cdef const char *semicolon
    cdef uint16_t effect = 0
    # The view, or the function behind it; pg_prepared_xacts is about transactions.
    if has_word(text, length, b'pg_prepared_statement', 21, 17):
        return SHOWS_STATEMENTS
    w.p = text
    w.end = text + length
    next_word(&w)
    if is_word(&w, b'EXECUTE') or is_word(&w, b'PREPARE') or is_word(&w, b'DEALLOCATE'):
        return NAMES_STATEMENTS
    if is_word(&w, b'LISTEN') or is_word(&w, b'UNLISTEN'):
        effect = LISTENS
    elif is_word(&w, b'LOAD'):
        effect = MAY_PIN
    if is_word(&w, b'EXPLAIN'):
        next_word(&w)
        if is_word(&w, b'POOLING'):
            return EXPLAINS
        semicolon = text
    elif is_word(&w, b'CREATE') or w.length == 0:
        semicolon = text
    else:
        semicolon = <const char *>memchr(text, 59, length)
    if semicolon != NULL:
        length -= semicolon - text
        if has_word(semicolon, length, b'execute', 7, 1) or has_word(semicolon, length, b'prepare', 7) \
                or has_word(semicolon, length, b'deallocate', 10):
            effect |= NAMES_STATEMENTS
        if has_word(semicolon, length, b'listen', 6):
            effect |= LISTENS
    return effect


cdef uint16_t settings_effect_of(const char *text, Py_ssize_t length) noexcept nogil:
    """ENDS_WITH_TRANSACTION when the text is one SET LOCAL, SET TRANSACTION or SET CONSTRAINTS, or
    calls set_config() with is_local = true;
    LEAVES_ABORTED for a text that an aborted transaction accepts; SETTINGS_TOUCHED for one that
    calls set_config() with what may be is_local = false, or has a block of code that may SET;
    NAMES_SETTINGS for those, for SET, RESET and DISCARD, and for a SET among several statements."""
    cdef Words w
    cdef const char *semicolon
    if has_word(text, length, b'set_config', 10, 3) and not (
            has_word(text, length, b'true', 4) and not has_word(text, length, b'false', 5)):
        return SETTINGS_TOUCHED | NAMES_SETTINGS
    w.p = text
    w.end = text + length
    next_word(&w)
    if w.length == 0:
        # A comment in front, most often.
        return NAMES_SETTINGS if has_word(text, length, b'set', 3) else 0
    if is_word(&w, b'DO'):
        return SETTINGS_TOUCHED | NAMES_SETTINGS if has_word(text, length, b'set', 3) else 0
    if is_word(&w, b'RESET') or is_word(&w, b'DISCARD'):
        return NAMES_SETTINGS | GOES_BACK
    semicolon = <const char *>memchr(text, 59, length)
    if semicolon != NULL and has_word(semicolon, text + length - semicolon, b'set', 3):
        return NAMES_SETTINGS
    if not is_word(&w, b'SET'):
        if is_word(&w, b'ROLLBACK') or is_word(&w, b'COMMIT') or is_word(&w, b'END') \
                or is_word(&w, b'ABORT') or is_word(&w, b'PREPARE'):
            return LEAVES_ABORTED
        return ENDS_WITH_TRANSACTION if has_word(text, length, b'set_config', 10, 3) else 0
    next_word(&w)
    if not (is_word(&w, b'LOCAL') or is_word(&w, b'TRANSACTION') or is_word(&w, b'CONSTRAINTS')):
        return NAMES_SETTINGS | (GOES_BACK if has_word(text, length, b'default', 7) else 0)
    # A semicolon may begin a second statement: then nothing is known.
    while w.p < w.end:
        if w.p[0] == 59:
            return ENDS_WITH_TRANSACTION if at_end(&w) else NAMES_SETTINGS
        w.p += 1
    return ENDS_WITH_TRANSACTION


cdef bint is_about_code(const char *tag, Py_ssize_t length) noexcept nogil:
    """Does a command with this tag change functions, or what they stand behind, whatever it names?"""
    return (has_word(tag, length, b'function', 8) or has_word(tag, length, b'procedure', 9)
            or has_word(tag, length, b'routine', 7) or has_word(tag, length, b'trigger', 7)
            or has_word(tag, length, b'view', 4) or has_word(tag, length, b'rule', 4)
            or has_word(tag, length, b'policy', 6) or has_word(tag, length, b'extension', 9)
            or has_word(tag, length, b'schema', 6))


cdef inline bint alters_within(const char *text, Py_ssize_t length) noexcept nogil:
    """A DO block that may create, alter or drop something, which its tag does not tell?"""
    while length > 0 and is_space(text[0]):
        text += 1
        length -= 1
    return length > 2 and reads_as(text, b'do', 2) and not is_letter(text[2]) and (
        has_word(text, length, b'create', 6) or has_word(text, length, b'alter', 5)
        or has_word(text, length, b'drop', 4))


cdef uint16_t effect_of_tag(const char *tag, Py_ssize_t length) noexcept nogil:
    """What a command with this CommandComplete tag leaves behind. length: without the NUL."""
    # SELECT, INSERT, UPDATE, DELETE and BEGIN, COMMIT differ from all below in these letters.
    if length >= 3 and tag[0] == 83 and tag[1] == 69 and tag[2] == 84:
        return SETTINGS_TOUCHED
    if tag[0] == 82 and length == 5 and memcmp(tag, b'RESET', 5) == 0:
        return SETTINGS_TOUCHED
    if tag[0] == 76 and length >= 4:
        if length == 6 and memcmp(tag, b'LISTEN', 6) == 0:
            return LISTENING
        if memcmp(tag, b'LOAD', 4) == 0:
            return SESSION_TOUCHED
    if tag[0] == 85 and length == 8 and memcmp(tag, b'UNLISTEN', 8) == 0:
        return LISTENING
    if tag[0] == 80 and length == 7 and memcmp(tag, b'PREPARE', 7) == 0:
        return STATEMENTS_TOUCHED
    return 0


cdef bint may_commit_within(const char *text, Py_ssize_t length) noexcept nogil:
    """Several statements, and the word COMMIT or END after the first: losing it leaves doubt.

    text: may lack its end. Wrong only by calling an outcome unknown that was a plain loss.
    """
    cdef const char *p = <const char *>memchr(text, 59, length)
    cdef const char *end = text + length
    if p == NULL:
        return False
    while end - p >= 4:
        p += 1
        if (p[0] | 32) == 99 and end - p >= 6 and strncasecmp(p, b'COMMIT', 6) == 0:
            return True
        # In a function's body, between dollars, END is something else.
        if (p[0] | 32) == 101 and not is_letter((p - 1)[0]) and strncasecmp(p, b'END', 3) == 0 \
                and memchr(text, 36, length) == NULL:
            return True
    return False


cdef bytes deallocated_name(const char *text, Py_ssize_t length):
    """The statement that a DEALLOCATE names, as the server would spell it; None for ALL or doubt."""
    cdef bytes rest = text[:length].strip()[len(b'DEALLOCATE'):]
    if rest.endswith(b';'):
        rest = rest[:len(rest) - 1]
    rest = rest.strip()
    if rest[:7].upper() == b'PREPARE' and rest[7:8].isspace():
        rest = rest[7:].lstrip()
    if rest.startswith(b'"') and rest.endswith(b'"') and len(rest) > 2:
        rest = rest[1:len(rest) - 1]
        if b'"' in rest.replace(b'""', b''):
            return None
        return rest.replace(b'""', b'"')
    if rest.upper() == b'ALL' or not rest.replace(b'_', b'a').replace(b'$', b'a').isalnum():
        return None
    return rest.lower()
