# Names in a text that may stand for what leaves something in the session: functions, and relations
# that stand for some, as a table does for its triggers. After a statement with such a name in it
# the session is asked what was left. Which names these are the control plane finds in the catalogue.
#
# A text is looked through word by word, whatever a word means there: one in a literal or a comment
# is a question too many, and no more.

@cython.final
cdef class Suspects:
    """Names, and the effects of each.

    rows: of each its name, its effects (bits of `Leaves`) where it is called, wherever it stands,
    and wherever it stands in a text that writes; and what it says of settings. suspects_all: any
    text has all effects, until it is known better.
    """

    def __cinit__(self, rows, bint suspects_all=False):
        cdef uint16_t called, named, written
        cdef Suspect *place
        self.suspects_all = suspects_all
        self.touched = []
        self.size = 64
        while self.size < 3 * len(rows):
            self.size *= 2
        self.places = <Suspect *>calloc(self.size, sizeof(Suspect))
        if self.places == NULL:
            raise MemoryError()
        for name in (b'insert', b'update', b'delete', b'merge', b'copy', b'truncate'):
            suspects_place(self, hash_of(name)).writes = True
        for name, called, named, written, touched in rows:
            place = suspects_place(self, hash_of(last_word(name.encode('utf-8', 'surrogateescape'))))
            place.called |= called
            place.named |= named
            place.written |= written
            place.touched = len(self.touched)
            self.touched.append(touched)

    def find(self, bytes text not None):
        """The effects of a text, and what it says of settings."""
        cdef list touched = []
        effect = suspects_in(self, text, len(text), touched)
        return effect, touched

    def __dealloc__(self):
        free(self.places)


cdef bytes last_word(bytes name):
    """Of a name that has to be quoted: its last word, which is found as well."""
    cdef Py_ssize_t i
    for i in range(len(name) - 1, -1, -1):
        if not goes_on(name[i]):
            return name[i + 1:] or name
    return name


cdef inline bint goes_on(char c) noexcept nogil:
    """May it stand within a name? All that is not ASCII may."""
    return is_letter(c) or 48 <= c <= 57 or c == 36 or c < 0


cdef inline uint64_t hash_with(uint64_t hash, char c) noexcept nogil:
    if 65 <= c <= 90:
        c |= 32
    return fnv_with(hash, c)


cdef uint64_t hash_of(bytes name):
    cdef uint64_t hash = FNV_BASIS
    for c in name:
        hash = hash_with(hash, <char>c)
    return hash


cdef Suspect *suspects_place(Suspects k, uint64_t hash) noexcept:
    """Its place; one that is free becomes its own."""
    cdef Suspect *place = suspects_look(k, hash)
    place.hash = hash
    return place


cdef inline Suspect *suspects_look(Suspects k, uint64_t hash) noexcept nogil:
    """Its place, or a free one. Two names of one hash are one: the table is no third full."""
    cdef Py_ssize_t i = <Py_ssize_t>(hash & <uint64_t>(k.size - 1))
    while k.places[i].hash and k.places[i].hash != hash:
        i = (i + 1) & (k.size - 1)
    return &k.places[i]


cdef uint16_t suspects_in(Suspects k, const char *text, Py_ssize_t length, list touched) except? 65535:
    """The effects of a text; what it says of settings is added to `touched`.

    text: up to its first NUL, or so much of it as is here.
    """
    cdef const char *p = text
    cdef const char *end = text + strnlen(text, length)
    cdef Suspect *place
    cdef uint64_t hash
    cdef uint16_t effect = 0, written = 0
    cdef bint writes = False
    cdef Py_ssize_t others = len(touched)
    k.is_named = False
    while p < end:
        if not goes_on(p[0]):
            p += 1
            continue
        hash = FNV_BASIS
        while p < end and goes_on(p[0]):
            hash = hash_with(hash, p[0])
            p += 1
        place = suspects_look(k, hash)
        if not place.hash:
            continue
        writes = writes or place.writes
        k.is_named = k.is_named or place.called | place.named | place.written
        written |= place.written
        effect |= place.named
        if place.called and is_called(p, end):
            effect |= place.called
        elif not place.named and not place.written:
            continue
        if place.touched < len(k.touched):
            told = k.touched[place.touched]
            if told not in touched:
                touched.append(told)
    if writes:
        effect |= written
    if k.suspects_all:
        return ALL_LEFT
    if not effect:
        del touched[others:]
    return effect


cdef bint is_called(const char *p, const char *end) noexcept nogil:
    """Does an opening parenthesis follow, or a comment, behind which it may?"""
    if p < end and p[0] == 34:
        p += 1
    while p < end and is_space(p[0]):
        p += 1
    if p < end and p[0] == 40:
        return True
    return end - p > 1 and (p[0] == 47 and p[1] == 42 or p[0] == 45 and p[1] == 45)


cdef inline uint16_t client_suspects(Client c, const char *text, Py_ssize_t length) except? 65535:
    """A text is about to be run: what may be left by what it calls? What that says of settings is
    in c.suspected."""
    c.suspicion = 0
    c.suspected = None
    c.names_suspects = False
    if c.line.suspects is None or c.line.mode == SESSION_MODE:
        return 0
    return client_finds_suspects(c, text, length)


cdef uint16_t client_finds_suspects(Client c, const char *text, Py_ssize_t length) except? 65535:
    cdef list touched = []
    c.suspicion = suspects_in(c.line.suspects, text, length, touched)
    c.names_suspects = c.line.suspects.is_named
    if touched:
        c.suspected = touched
    return c.suspicion


cdef uint16_t client_suspects_bound(Client c, Statement statement) except? 65535:
    """As above, of the statement that is bound, where that is no other client's unnamed one: one
    that is known is looked through once."""
    cdef list touched
    if statement is None:
        if c.unnamed is None or c.unnamed.key is None:
            return client_suspects(c, b'', 0)
        return client_suspects(c, c.unnamed.key, len(c.unnamed.key))
    if statement.suspects is not c.line.suspects:
        touched = []
        statement.suspected_effect = suspects_in(
            c.line.suspects, statement.key, len(statement.key), touched)
        statement.suspected = touched or None
        statement.names_suspects = c.line.suspects.is_named
        statement.suspects = c.line.suspects
    c.suspicion = statement.suspected_effect if c.line.mode != SESSION_MODE else 0
    c.suspected = statement.suspected
    c.names_suspects = statement.names_suspects
    return c.suspicion


cdef uint16_t client_suspects_all(Client c) noexcept:
    """Of what is about to be run not all of the text is known."""
    c.suspected = None
    c.names_suspects = c.line.suspects is not None
    c.suspicion = ALL_LEFT if c.line.mode != SESSION_MODE else 0
    return c.suspicion


cdef int server_notes_suspects(Server s, Client c, bytes text, bytes values) except -1:
    """It is about to run what its client's suspicion is about.

    text: of the statement; None when it is not all here. values: the body of its Bind, or None.
    """
    if c.suspected is None:
        return server_adds_touched(s, s.relay.control.settings_of_words(b'', None))
    for touched in c.suspected:
        server_adds_touched(s, touched)
    if text is not None and runs_what_is_given(c.suspicion) and not (
            c.line.suspects is not None and c.line.suspects.suspects_all):
        server_adds_touched(s, s.relay.control.settings_of_words(text, values))
    return 0


cdef inline bint runs_what_is_given(uint16_t suspicion) noexcept:
    """May a function execute what its caller gives it?"""
    return suspicion & LEFT_IN_SESSION == LEFT_IN_SESSION
