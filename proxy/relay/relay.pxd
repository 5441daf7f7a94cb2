# The data plane's contents page. One compiled module, told in these chapters:
#
#   octets.pxi     growable bytes, and the Sink that turns pieces into one send
#   commands.pxi   the handful of statements the proxy answers or must notice itself
#   ledger.pxi     the replies a server still owes
#   outbox.pxi     what a pass sends: at its end, servers before clients
#   link.pxi       one non-blocking socket end: read, write, back-pressure, TLS
#   statements.pxi prepared statements, one identity per text and parameter types
#   columns.pxi    ... what they return, and what their clients have been told of that
#   parameters.pxi ... of what types their parameters are, and what their clients were told
#   reading.pxi    ... by which settings their texts are read
#   freshness.pxi  what a session has written, and how far the nodes of its cluster are
#   idle.pxi       the free connections of a pool
#   line.pxi       the line in which clients wait, and the pools that serve it
#   balance.pxi    which of several nodes gets the next statement
#   server.pxi     what PostgreSQL says, checked against the ledger and passed on
#   settling.pxi   ... what we ask of it ourselves, and who gets it next
#   replan.pxi     a unit whose plan is out of date, run once more
#   telling.pxi    which statements the control plane hears of, once they have ended
#   suspects.pxi   names in a text that stand for what leaves something in the session
#   session.pxi    settings follow a client from server to server, other things pin it
#   client.pxi     what a client says, one message after another; its coming and leaving
#   seen.pxi       ... what is known of it already, as it had to wait
#   routing.pxi    ... where it goes, and what is run again elsewhere
#   own.pxi        ... of settings that are the proxy's own
#   simple.pxi     ... Query
#   extended.pxi   ... Parse, Bind, Describe, Execute, Close, Sync
#   local.pxi      ... commands that are answered here
#   names.pxi      what a client calls its statements
#   poller.pxi     epoll, the tick, counters: the Relay itself

from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from cpython.object cimport PyObject

from proxy.sql.lexer cimport Scan


# Growable bytes. Content is data[start:end]; `data` is NULL while there is none.
ctypedef struct Octets:
    char *data
    Py_ssize_t start
    Py_ssize_t end
    Py_ssize_t size


# What one pass of a reader sends on. One contiguous piece is sent from where it lies; as soon as
# there are two that do not touch, they are copied together, so that there is one send either way.
ctypedef struct Sink:
    const char *piece
    Py_ssize_t length
    bint copying
    Octets copy


# What one link is sent at the end of a pass.
ctypedef struct Parcel:
    PyObject *link      # borrowed: who is closed in a pass lives to its end
    Py_ssize_t length


# Parcels in the order in which they were handed in, and what is in them, one after the other.
ctypedef struct Outbox:
    Parcel *parcels
    int count
    char *octets
    Py_ssize_t end


# One reply a server owes, in the order it owes them.
ctypedef struct Reply:
    char kind           # the message that asked for it: Q P B D E C S F, or c: see ledger.pxi
    uint8_t action      # FORWARD, SWALLOW or FORGE
    uint16_t effect     # effect bits of the statement, see commands.pxi
    PyObject *statement # owned; of P and C; else NULL
    PyObject *name      # owned; of P and C: the client's name for it, or the unnamed statement (an
                        # Unnamed) that it does away with; of D: the client's name, or the unnamed
                        # statement; of B: the ErrorResponse to send in place of the server's; else NULL


ctypedef struct Ledger:
    Reply *replies      # a ring of `size` entries
    int head
    int count
    int size


# A name, and the effect of a text that has it.
ctypedef struct Suspect:
    uint64_t hash       # of the name in lower case; 0: this place is free
    uint16_t called     # ... where an opening parenthesis follows it
    uint16_t named      # ... wherever it stands
    uint16_t written    # ... wherever it stands, in a text that writes
    bint writes         # it is a word that says so
    Py_ssize_t touched  # index of what it says of settings


cdef class Suspects:
    cdef Suspect *places            # a table, by hash
    cdef Py_ssize_t size            # a power of two
    cdef list touched
    cdef bint suspects_all
    cdef bint is_named              # in the text looked through last there was one of them, wherever


cdef class Statement:
    cdef readonly bytes key         # query text, NUL, int16 count, int32 type oids: Parse's body
    cdef readonly bytes name        # on every server that has it
    cdef readonly int uses          # client names and servers that hold it
    cdef uint8_t command
    cdef uint16_t effect
    cdef Suspects suspects          # those that its text was looked through for
    cdef uint16_t suspected_effect  # ... the effect of what was found
    cdef list suspected             # ... and what that says of settings
    cdef bint names_suspects        # ... and whether there were any, wherever
    cdef Decision decision          # on its text, as `decisions` had it
    cdef Decisions decisions
    cdef uint64_t shape             # of the columns it was first seen to return; 0: not seen yet
    cdef bint quotes                # it may have constants that are read by a session's settings
    cdef bint timely                # ... or by the clock
    cdef bytes types                # of the parameters, as first told; None: not told yet
    cdef object types_age           # the relay's schema_age when they were found last
    cdef bint varied                # it was seen to return others, or with parameters of others


# An unnamed statement of one client, from its Parse on.
cdef class Unnamed:
    cdef bytes key                  # as a Statement's; None: it was too long to be kept
    cdef uint8_t command
    cdef uint16_t effect
    cdef Statement statement        # where it is a shared one, else None
    cdef uint64_t shape             # of the columns that its client was told of last; 0: of none
    cdef bytes types                # of the parameters that its client was told of; None: of none
    cdef uint64_t place             # number of the server that parsed it last
    cdef bint is_split              # the unit that it was described in goes on elsewhere


# A statement as one server has it.
cdef class Prepared:
    cdef object schema_age          # the relay's when it was prepared; None: it may be out of date
    cdef object literals, path      # by which it was read: see reading.pxi
    cdef bytes types                # of its parameters; None: the server has not said yet
    cdef uint64_t shape             # of what it returns; 0: the server has not said yet


# When something was last written, and by whom, for all processes of the proxy.
cdef class WriteTimes:
    cdef uint64_t *places           # bits of a time each, see freshness.pxi


# How a server connection gets from one client's settings to another's.
cdef class Switch:
    cdef object have, want          # the settings between which it leads; None for a part of one
    cdef bytes text                 # SQL; empty where they agree
    cdef Statement statement        # the same, prepared; None where only the text will do
    cdef bytes message              # ... its Bind and Execute


# What one session has written, as far as some replica may not have it.
cdef class Mark:
    cdef double written_s           # when the newest of it was committed; 0: nothing
    cdef int64_t lsn                # where that ends at most; 0: not known yet
    cdef uint32_t turns             # the horizon's when that was found


# How far the nodes of one cluster are.
cdef class Horizon:
    cdef double samples_s[1024]     # a ring: when the primary was asked where its WAL ends
    cdef int64_t samples_lsn[1024]
    cdef int head, count
    cdef uint32_t turns             # timelines that came while we looked
    cdef readonly double turned_s   # ... when the last of them did
    cdef WriteTimes times
    cdef uint64_t salt              # tells keys of this cluster from those of others
    cdef uint64_t *all_written      # its place for what anybody has written
    cdef uint64_t *all_keys         # ... and for what holds for every key
    cdef Mark newest                # ... the former, once its position is known
    cdef readonly str cluster
    cdef public bint is_quiet       # nobody has written since it was last set
    cdef public bint is_shared      # keys are, with other proxies: the control plane tells and asks


# What is known of a text: see routing.pxi.
cdef class Decision:
    cdef readonly uint8_t flags
    cdef readonly object target     # a rule's, or None
    cdef readonly bytes refusal     # the ErrorResponse of a rule that rejects it, or None
    cdef readonly double timeout_s
    cdef readonly object note       # what to tell the control plane when it comes, or None


# A text that was parsed lately.
cdef class Recent:
    cdef bytes text
    cdef int lex_options            # with which it was read
    cdef Decision decision


cdef class Decisions:
    cdef dict known                 # key -> Decision, oldest first
    cdef list recent                # Recent or None, by a number of the text
    cdef Py_ssize_t held_bytes
    cdef readonly bint by_text      # keys are whole texts, as a rule looks at constants
    cdef readonly object owner


cdef class Router:
    cdef readonly Decisions decisions
    cdef readonly dict lines        # target -> Line
    cdef Line replicas              # ... that of `replica`, which is asked for most
    cdef readonly Horizon horizon
    cdef public bint splits         # reads go to replicas
    cdef public bint begins_reading # ... and transactions whose first statement only reads
    cdef public bint looks          # some rule looks at statements
    cdef public bint guards         # ... and may reject one
    cdef public object session_target   # a rule's that looks at none, or None
    cdef public uint8_t consistency
    cdef public double wait_s
    cdef public uint8_t otherwise
    cdef public bint is_stale       # there is a newer one


cdef class Wish:
    cdef bint reads                 # all that was asked for only reads
    cdef bint writes                # ... some of it may change what others can see
    cdef bint contradicts           # two targets were asked for
    cdef uint8_t reason
    cdef object target
    cdef tuple keys                 # consistency keys that hints name, or None
    cdef int statements
    cdef bint begins                # ... if a transaction that it begins does
    cdef bint is_half               # a Flush comes before anything is run


cdef class Ended:
    cdef readonly bytes text        # as the client wrote it; empty when it is not known
    cdef readonly bint is_cut       # ... without its end
    cdef readonly double spent_s    # from its arrival to its end
    cdef readonly double waited_s   # ... of which it waited for a server connection
    cdef readonly double opening_s  # ... of which, at its end, that one was opened or asked
    cdef readonly double preparing_s    # after the wait: until that had its settings and transaction
    cdef readonly int64_t rows
    cdef readonly uint64_t received_bytes
    cdef readonly str sqlstate      # what it failed with, or None
    cdef readonly int stands_for    # how many statements it is to be counted as


cdef class Histogram:
    cdef double bounds[16]
    cdef uint64_t counts[17]
    cdef int length
    cdef double total_s


cdef class Tls:
    cdef object connection          # ssl.SSLObject
    cdef object incoming            # ssl.MemoryBIO
    cdef object outgoing
    cdef bint dry                   # the socket was empty when last read
    cdef bint drained               # nothing more to be had of the session until records come


cdef class Waiter:
    cdef Relay relay
    cdef bint is_over
    cdef public bint _asyncio_future_blocking
    cdef object error               # what the wait ended with, or None
    cdef object callback            # the wake-up of the Task that waits
    cdef object context             # ... and what it runs in


cdef class Link:
    cdef Relay relay
    cdef int fd
    cdef uint8_t side               # CLIENT_SIDE or SERVER_SIDE
    cdef uint8_t stage              # LOGIN, RELAYING, CLOSING, CLOSED
    cdef bint readable              # an edge was seen and the socket not read empty since
    cdef bint ended                 # the peer will send no more
    cdef bint awaits_writable       # EPOLLOUT is armed
    cdef bint posted                # some parcel in an outbox is for it
    cdef bint again                 # stands on the relay's list of links to read once more
    cdef Octets held                # read, not yet consumed
    cdef Octets unsent              # accepted for sending, not yet taken by the kernel
    cdef Py_ssize_t passing         # bytes of the current frame that are still to come
    cdef bint discarding            # ... and are dropped rather than passed on
    cdef int withheld               # nothing is sent before so many others have been told of it
    cdef Tls tls
    cdef Waiter waiter              # what its login coroutine waits for
    cdef public str address         # "127.0.0.1:5555" or "unix:"; a PROXY header names another
    cdef readonly double since_s    # when it came, on the relay's clock
    cdef readonly uint64_t number   # no other link of this process has it


cdef class Client(Link):
    cdef readonly Line line         # of the primary: its limits and figures are the client's
    cdef Line aim                   # ... and the one in which it waits: of what it says now
    cdef readonly Server server
    cdef Client ahead, behind       # neighbours in the line, while waiting
    cdef bint waiting
    cdef readonly double waits_since_s
    cdef readonly double began_s    # when the running request reached us
    cdef readonly double ready_s    # when it was last told ReadyForQuery
    cdef double opened_s            # when its transaction's first request reached us; 0 outside of one
    cdef double transaction_s       # when its transaction was first seen open; 0 outside of one
    cdef bint overdue               # its running request has been cancelled for its length
    cdef double overdue_s           # ... and when
    cdef bint told                  # ... that it waits
    cdef double waited_s            # how long its running request waited for its server
    cdef double opening_s           # ... and, if it did, how long that was opened or asked meanwhile
    cdef char status                # as the last ReadyForQuery said: I, T or E
    cdef bint skipping              # after an error: drop messages until Sync
    cdef bytes begin                # text of a BEGIN that no server has been told of yet
    cdef tuple lost                 # SQLSTATE, message, detail: why its server is gone, until it is told
    cdef bint aborted               # its transaction died with its server
    cdef bytes refusal              # ErrorResponse for the request that waited in vain
    cdef bint starved               # what is held is no whole message: only more bytes help
    cdef bint awaits_replies        # stopped until the server owes nothing
    cdef bint unsettled             # a unit under way changes names: an error would undo that
    cdef bint runs_commands         # some statement of its is a Command
    cdef bint speaks_of_own         # some statement of its was about a setting of ours
    cdef bytes own_portal           # the portal with such a statement, or None
    cdef object own_setting         # ... and what it is
    cdef bint retried               # the present unit is already a second try
    cdef dict statements            # name -> Statement, NULL object until the first Parse
    cdef dict shapes                # name -> shape it knows of that statement, where not Statement.shape
    cdef dict types                 # name -> types of its parameters, where not Statement.types
    cdef dict bound                 # portal -> (Statement, name) that it may learn the columns of so
    cdef bytes bound_portal         # the portal that was bound last; None: the unnamed one
    cdef bint bound_unnamed         # ... of an unnamed statement of its own
    cdef frozenset prepared         # names of those it made by PREPARE, None without any
    cdef bint listens               # to some channels
    cdef bint awaits_listener       # the control plane has yet to listen in its stead
    cdef bytes pending              # what it is to be told as soon as it is idle
    cdef Server keeps               # where its currval() and lastval() are
    cdef uint16_t prepared_effect   # ... and the effects that one of them may have
    cdef list prepared_touched      # ... and what they say of settings
    cdef Unnamed unnamed            # its unnamed statement, or None
    cdef uint16_t bound_effect      # effect of the statement bound last
    cdef bint bound_commit
    cdef public object settings     # the interned Settings it believes in
    cdef readonly object startup    # ... and those it came with
    cdef uint16_t suspicion         # effect of suspects in the statement bound last
    cdef list suspected             # ... and what they say of settings
    cdef bint names_suspects        # ... and whether there are any, wherever they stand
    cdef bytes bound_text           # key of the statement bound last, if it names settings or may pin
    cdef bytes bound_values         # ... and its Bind
    cdef Py_ssize_t seen_bytes      # of the message at hand, when it began to wait; 0: nothing is known
    cdef uint16_t seen_effect       # ... and what they may do to the session
    cdef Py_ssize_t wished_bytes    # of the request at hand, when it began to wait; 0: it has no wish
    cdef Wish wish                  # ... and what it asks for
    cdef Router router              # None while nothing of its line is routed by statement
    cdef object routed_settings     # the settings that its router was chosen for
    cdef uint8_t lex_options
    cdef bint reads_by_default      # default_transaction_read_only
    cdef bint is_serializable       # default_transaction_isolation: no replica offers that
    cdef readonly object route      # pgweir.route as it was SET, or None
    cdef readonly object consistency_key    # ... and pgweir.consistency_key
    cdef object usual_route         # what they are otherwise
    cdef object usual_key
    cdef Mark mark                  # what it has written
    cdef tuple said_keys            # the keys that its transaction's statements have named, or None
    cdef uint8_t reason             # why it aims there
    cdef bint dirty                 # it may have written since its transaction began
    cdef bint on_replica            # what runs is one request that was sent to a replica to read
    cdef bint began_reading         # its transaction is there for what its first statement read
    cdef bint by_verdict            # ... because of what it does, and for no other reason
    cdef bint is_half               # ... and it is the part of a unit that only prepares
    cdef bint has_flushed           # ... and that has been sent
    cdef bint expelled              # a second try: to the primary
    cdef bint parked                # waits for a replica that has what it wrote
    cdef double patience_s          # ... until then
    cdef uint8_t hearing            # HAS_NOT_ASKED, ASKS, HAS_HEARD what others wrote
    cdef uint32_t question          # ... the number of what it asks, or asked last
    cdef int64_t heard_lsn          # ... what it was told a node must have replayed, or UNHEARD
    cdef int64_t least_lsn          # what a server must have replayed
    cdef double limit_s             # query timeout of a rule; 0: none
    cdef public object login        # whatever the control plane keeps with it
    cdef readonly int pid           # its cancel key
    cdef readonly bytes secret


cdef class Server(Link):
    cdef readonly Pool pool
    cdef readonly Client client
    cdef Ledger ledger
    cdef char status
    cdef bint open_unit             # extended messages were sent and their Sync was not
    cdef bint copying_in
    cdef bint fed                   # COPY data were sent since the last ReadyForQuery
    cdef int ignored_syncs          # that the server passes over as it reads COPY data
    cdef int doubtful_syncs         # ... or did not, as the COPY failed
    cdef bint in_doubt              # that unit is over: what comes next tells
    cdef bint committing            # a COMMIT is among the replies owed
    cdef readonly bint resetting
    cdef bint orphaned              # its client left while replies were owed
    cdef readonly bint retiring     # closed as soon as it is free
    cdef bint idling                # stands in its pool's chain of idle ones
    cdef Server older, newer        # ... between these
    cdef readonly double asked_s    # when it was asked whether it is still there; 0: it is not being
    cdef public double ages_from_s  # its lifetime counts from then
    cdef public double opens_from_s # when it began to be opened, or asked, for who waits; else 0
    cdef double prepared_s          # when something of ours was done last, ahead of a client's
    cdef uint16_t dirt              # effect bits that outlive a transaction
    cdef int cancels                # cancel requests on their way to it
    cdef bint cancel_wanted
    cdef bint replied               # something of the present unit has reached the client, or was run
    cdef tuple keys                 # consistency keys of a client that left before its commit
    cdef bint changed_schema        # something in the transaction may have
    cdef bint outdates              # ... so that what is prepared may be out of date
    cdef bint changed_code          # ... and functions, or what stands for them, too
    cdef bint names_suspects        # what it is asked has some name of those, so that might be it
    cdef bint alters_within         # among that is a DO block that may create, alter or drop something
    cdef bint reached               # something has been sent to the client since it has this server
    cdef bint replanning
    cdef uint8_t retain             # RETAIN_NO, RETAIN_YES, RETAIN_OVER: is the unit kept?
    cdef Octets unit                # the client's messages of the present unit, for a second try
    cdef dict prepared              # Statement -> Prepared, least recently used first
    cdef Statement latest           # the one used last: it is at the end already
    cdef bint compared              # ... was prepared in this unit, for its columns to be compared
    cdef dict aliases               # our name -> its client's, of names given up meanwhile
    cdef Unnamed unnamed            # the unnamed statement that it has, unless it is elsewhere by now
    cdef uint64_t unnamed_shape     # ... of its columns, where they are to be compared; else 0
    cdef public object settings     # interned Settings in force on it
    cdef public object defaults     # interned Settings it had when it was new
    cdef object pending_settings    # ... and those that an injected SET will bring
    cdef list touched               # what its client's statements said of settings, until read back
    cdef object shift               # since a statement may have changed by what texts are read; or None
    cdef bint misread               # functions may have read constants so, and keep them
    cdef bint pinned                # what its client left in the session cannot go elsewhere
    cdef readonly int notifier      # cancel key's process id of the client that said NOTIFY here
    cdef tuple sticky               # reasons for that which the session cannot be asked about
    cdef bytes cause                # the last text that may have pinned
    cdef Client keeper              # whose currval() and lastval() it has
    cdef int returns                # times in a row it went to who came for its settings, past others
    cdef bint carried               # some of its settings are no settings: see session.pxi
    cdef bint exposed               # its prepared statements are its client's, by their own names
    cdef set lacking                # ... and of those it has not, as they could not be parsed again
    cdef set changed                # ... and of those that return other columns than the client knows
    cdef bint went_back             # a RESET went to the server's defaults, within a transaction
    cdef object asked               # the question about them that is under way
    cdef list answer                # ... and the rows that have come
    cdef readonly int pid
    cdef readonly bytes secret
    cdef readonly double idle_since_s
    cdef uint64_t transactions
    cdef bint noted                 # what runs is known, and will be told of or counted
    cdef bint cut                   # ... but not all of its text
    cdef Octets said                # the beginning of the text that runs
    cdef bytes ran                  # ... or the key of the statement that does
    cdef set following              # texts and keys of what was sent before its reply had come
    cdef int64_t rows               # it has given so far
    cdef uint64_t came              # bytes of its reply so far
    cdef str failed                 # the SQLSTATE it failed with


cdef class Pool:
    cdef readonly str cluster, node, database, user
    cdef readonly str role
    cdef public int size
    cdef public int connecting
    cdef public int max_prepared
    cdef public double lifetime_s   # below 0: for ever; 0: used once
    cdef public double fresh_s      # unused for longer, a server is asked whether it is still there
    cdef public bytes check_query   # ... with this
    cdef readonly int checking      # servers that are being asked
    cdef public uint8_t reset       # RESETS_SMARTLY, RESETS_ALWAYS, RESETS_NEVER
    cdef public bint capped         # a limit is reached: it asks for no more connections meanwhile
    cdef public int yields          # connections to close as they become free
    cdef Server oldest, newest      # of the idle ones
    cdef Py_ssize_t idle_count
    cdef bint keeps                 # its idle ones, from those who wait: see pool_keeps
    cdef readonly set servers
    cdef list lines
    cdef public object owner
    cdef uint64_t queries, transactions
    cdef readonly bint retired
    cdef readonly bint takes_writes
    cdef public int weight          # share of the reads beside the line's other pools
    cdef public bint is_near        # in the proxy's own zone
    cdef int credit                 # of weighted turns
    cdef readonly int64_t replayed  # everything up to there is on the node; 0: not known
    cdef double opened_s            # when a connection was opened last
    cdef public Horizon horizon     # of its cluster, where what is written matters


cdef class Line:
    cdef readonly str database, user, role
    cdef readonly str target        # primary, replica, or a role that nodes have
    cdef public uint8_t balance
    cdef public Router router       # of clients to whom no rule of their own applies; None: no routing
    cdef uint64_t routed[16]        # requests sent here, by reason
    cdef readonly list pools
    cdef public uint8_t mode
    cdef public bint share_unnamed
    cdef public bint tracks_statements
    cdef public Py_ssize_t max_statement_bytes
    cdef public int max_client_statements
    cdef public bint refuses_pins
    cdef public object session_functions    # a compiled pattern of their calls, or None
    cdef public Suspects suspects   # None without any
    cdef object __weakref__
    cdef bint keeps_sequences       # somebody has used one
    cdef bint tells_sequences       # somebody has asked for currval() or lastval()
    cdef public double wait_timeout_s
    cdef public double query_timeout_s
    cdef public double transaction_timeout_s
    cdef public double idle_transaction_timeout_s
    cdef public double client_idle_timeout_s
    cdef public double slow_s       # statements that take so long are all told of
    cdef public bint tells_all      # ... and so are all others
    cdef public bint tells_traced   # ... or those that name a trace
    cdef Client first, last
    cdef int overtakings            # of its first, by those in a free server's settings
    cdef readonly bint held         # nobody is given a server connection
    cdef public bint lacks_primary  # it is the primary's, nodes are there, and none is the primary
    cdef readonly int waiting
    cdef readonly int clients
    cdef uint64_t queries, transactions
    cdef readonly uint64_t received, sent           # bytes from and to its clients
    cdef readonly uint64_t assignments              # times a client was given a server connection
    cdef readonly uint64_t parses, server_parses    # statements prepared by clients, and on servers
    cdef readonly uint64_t binds
    cdef readonly double waited_s                   # of those who were given one, together
    cdef readonly double transacted_s               # how long its transactions lasted, together
    cdef Histogram durations        # of what ran on nodes of its role
    cdef readonly double spent_s    # ... of all that its clients said


cdef class Relay:
    cdef readonly object loop
    cdef readonly object control
    cdef int epoll
    cdef readonly double now_s
    cdef char *scratch
    cdef Sink to_server, to_client
    cdef Outbox for_servers, for_clients
    cdef list again                 # links to read once more
    cdef list keeping               # pools that keep connections from those who wait
    cdef list departed              # links closed in this pass: events may still name them
    cdef list woken                 # Waiters whose Tasks go on when this pass is over
    cdef readonly dict clients      # cancel key's process id -> Client
    cdef dict parked                # Client -> True
    cdef Scan scan                  # what the lexer found last
    cdef Wish wish                  # what the request at hand asks for
    cdef Py_ssize_t wished_bytes    # ... and how much of it was looked at for that; 0: none
    cdef const char *at             # the message at hand, and all that came behind it
    cdef Py_ssize_t left
    cdef uint32_t chance            # of `random`
    cdef public bint has_limits     # a rule has set a timeout
    cdef dict statements            # key -> Statement
    cdef uint32_t next_statement
    cdef object schema_age          # another object after each change of a schema that was seen
    cdef dict switches              # where two settings are -> the Switch between them
    cdef Switch begins, commits     # what stands around those that are prepared; None until needed
    cdef readonly dict errors       # (database, sqlstate) -> count
    cdef readonly dict violations   # (side, reason) -> count
    cdef readonly Histogram waits
    cdef uint64_t received, sent, parses_sent, parses_forged, parses_injected, evictions, replans
    cdef uint64_t reruns
    cdef uint64_t passed, told, stride, until_told   # see telling.pxi
    cdef double told_since_s
    cdef readonly bint suspended    # links of the data plane are not read
    cdef uint64_t links             # made so far
    cdef bint scheduled
    cdef bint in_pass               # events that name links are being handled

    cdef int _dispatch(self, Link link, uint32_t events) except -1
