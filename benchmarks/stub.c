/*
 * A server that speaks PostgreSQL's protocol and answers at once.
 *
 * What it is for: with a real PostgreSQL behind it a proxy spends most of a benchmark waiting.
 * Behind this stub the proxy itself is the slowest part, so its own cost and its own limit are
 * what is measured. One thread, one epoll, one recv and one send per batch of messages.
 *
 * What it decides: the shape of a reply, from the first word of a statement. SELECT and whatever
 * it does not know answer one row; BEGIN, COMMIT and the like move the transaction status; SET of
 * a reported setting is echoed as ParameterStatus, because poolers compare what a client wants with
 * what a server last reported, and would otherwise send SET before every transaction.
 * A statement with `bench_mb` in it answers 1024 rows of 1 KiB, one with `bench_big_row` one row of
 * 1 MiB. The probe of pgweir's monitor (proxy/cluster/question.py) is told of a healthy primary.
 *
 * What it refuses to know: SQL, passwords (everybody is let in) and cancel requests (closed).
 *
 * Protocol facts: PostgreSQL documentation, chapter "Frontend/Backend Protocol".
 *
 * Usage: stub PORT; listens on 127.0.0.1 and runs until it is told to end (SIGTERM).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_EVENTS = 512, MAX_MESSAGE_BYTES = 1 << 20, READ_BYTES = 1 << 16 };
enum { STATEMENT_SLOTS = 4096, SETTINGS = 6, SETTING_BYTES = 128 };
enum { ROWS_PER_MB = 1024, ROW_BYTES = 1024 };

/* Settings a client may change and a pooler carries from server to server. */
static const char *const SETTING_NAMES[SETTINGS] = {
    "application_name", "client_encoding", "DateStyle",
    "IntervalStyle",    "TimeZone",        "standard_conforming_strings",
};
static const char *const SETTING_DEFAULTS[SETTINGS] = {
    "", "UTF8", "ISO, MDY", "postgres", "UTC", "on",
};

/* What a statement answers. */
typedef enum {
    ONE_ROW,
    PROBE_ROW,
    MANY_ROWS,
    BIG_ROW,
    BEGINS,
    COMMITS,
    ROLLS_BACK,
    SETS,
    RESETS,
    INSERTS,
    UPDATES,
    DELETES,
    OTHER,
    EMPTY,
} Answer;

typedef struct {
    uint64_t key; /* hash of the name; 0: free */
    uint8_t answer;
    uint8_t binary; /* for a portal: the first column is wanted in binary */
    uint16_t parameters;
} Prepared;

typedef struct {
    char *bytes;
    size_t used, room;
} Buffer;

typedef struct Connection {
    int fd;
    int logged_in;
    int wants_out;
    char status; /* I or T, as in ReadyForQuery */
    Buffer in;   /* bytes of a message that is not complete yet */
    Buffer out;  /* bytes the kernel did not take */
    size_t sent; /* of `out` */
    const Buffer *bulk; /* a ready-made reply that follows `out` */
    size_t bulk_sent;
    Prepared unnamed_statement, unnamed_portal;
    Prepared *named; /* made at the first named statement */
    char settings[SETTINGS][SETTING_BYTES];
    char at_login[SETTINGS][SETTING_BYTES];
} Connection;

static int epoll_fd;
static uint32_t next_backend = 1000;
static Buffer many_rows, big_row; /* RowDescription, rows and CommandComplete; then 'Z' with I */
static char scratch[READ_BYTES];

/* ---- building messages ---- */

static void need(Buffer *b, size_t more) {
    if (b->used + more <= b->room) return;
    size_t room = b->room ? b->room : 512;
    while (room < b->used + more) room *= 2;
    char *grown = realloc(b->bytes, room);
    if (!grown) {
        fprintf(stderr, "stub: out of memory\n");
        exit(1);
    }
    b->bytes = grown;
    b->room = room;
}

static void put(Buffer *b, const void *bytes, size_t n) {
    need(b, n);
    memcpy(b->bytes + b->used, bytes, n);
    b->used += n;
}

static void put16(Buffer *b, uint16_t v) {
    v = htons(v);
    put(b, &v, 2);
}

static void put32(Buffer *b, uint32_t v) {
    v = htonl(v);
    put(b, &v, 4);
}

static void put_text(Buffer *b, const char *text) { put(b, text, strlen(text) + 1); }

/* Begin a message; the length is filled in by finish(). */
static size_t begin(Buffer *b, char type) {
    put(b, &type, 1);
    size_t at = b->used;
    put32(b, 0);
    return at;
}

static void finish(Buffer *b, size_t at) {
    uint32_t length = htonl((uint32_t)(b->used - at));
    memcpy(b->bytes + at, &length, 4);
}

static void parameter_status(Buffer *b, const char *name, const char *value) {
    size_t at = begin(b, 'S');
    put_text(b, name);
    put_text(b, value);
    finish(b, at);
}

static void command_complete(Buffer *b, const char *tag) {
    size_t at = begin(b, 'C');
    put_text(b, tag);
    finish(b, at);
}

static void ready(Buffer *b, char status) {
    size_t at = begin(b, 'Z');
    put(b, &status, 1);
    finish(b, at);
}

typedef struct {
    const char *name;
    uint32_t type; /* an oid of pg_type.dat */
    int16_t bytes; /* of the binary form, -1: varies */
    const char *text; /* NULL: null */
    int64_t number;
} Column;

enum { BOOL = 16, INT8 = 20, INT4 = 23, TEXT = 25, FLOAT8 = 701 };

/* What a primary says of itself. Drivers look columns up by name, so their order is free. */
static const Column PROBE[] = {
    {"in_recovery", BOOL, 1, "f", 0},
    {"timeline", INT8, 8, "1", 1},
    {"insert_lsn", INT8, 8, "16777216", 16777216},
    {"flush_lsn", INT8, 8, "16777216", 16777216},
    {"receive_lsn", INT8, 8, NULL, 0},
    {"replay_lsn", INT8, 8, NULL, 0},
    {"replay_age_s", FLOAT8, 8, NULL, 0},
    {"fork_lsn", INT8, 8, NULL, 0},
    {"has_receiver", BOOL, 1, "f", 0},
    {"receiver_status", TEXT, -1, NULL, 0},
    {"receiver_silent_s", FLOAT8, 8, NULL, 0},
    {"receiver_timeout_s", FLOAT8, 8, NULL, 0},
    {"receiver_conninfo", TEXT, -1, NULL, 0},
    {"synchronous", TEXT, -1, NULL, 0},
    {"standbys", TEXT, -1, NULL, 0},
    {"read_only", BOOL, 1, "f", 0},
    {"server_version_num", INT4, 4, "160004", 160004},
    {"max_connections", INT4, 4, "100000", 100000},
    {"reserved_connections", INT4, 4, "3", 3},
    {"wal_block_size", INT8, 8, "8192", 8192},
    {"system_identifier", INT8, 8, "7000000000000000001", 7000000000000000001},
};
static const Column BALANCE = {"abalance", INT4, 4, "0", 0};
static const Column FILLER = {"filler", TEXT, -1, "", 0};
enum { PROBE_COLUMNS = sizeof PROBE / sizeof PROBE[0] };

static void describe_column(Buffer *b, const Column *column, int binary) {
    put_text(b, column->name);
    put32(b, 0);
    put16(b, 0);
    put32(b, column->type);
    put16(b, (uint16_t)column->bytes);
    put32(b, 0xffffffff);
    put16(b, binary ? 1 : 0);
}

static void row_description(Buffer *b, Answer answer, int binary) {
    const Column *columns = answer == PROBE_ROW ? PROBE : answer == ONE_ROW ? &BALANCE : &FILLER;
    int count = answer == PROBE_ROW ? PROBE_COLUMNS : 1;
    size_t at = begin(b, 'T');
    put16(b, (uint16_t)count);
    for (int i = 0; i < count; i++) describe_column(b, &columns[i], binary);
    finish(b, at);
}

/* Big-endian, the low `bytes` of `number`. */
static void put_number(Buffer *b, int64_t number, int bytes) {
    put32(b, (uint32_t)bytes);
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
        char byte = (char)(number >> shift);
        put(b, &byte, 1);
    }
}

static void probe_row(Buffer *b, int binary) {
    size_t at = begin(b, 'D');
    put16(b, PROBE_COLUMNS);
    for (int i = 0; i < PROBE_COLUMNS; i++) {
        const Column *column = &PROBE[i];
        if (!column->text) {
            put32(b, 0xffffffff);
        } else if (binary) {
            put_number(b, column->number, column->bytes);
        } else {
            put32(b, (uint32_t)strlen(column->text));
            put(b, column->text, strlen(column->text));
        }
    }
    finish(b, at);
}

static void data_row(Buffer *b, const void *value, uint32_t bytes) {
    size_t at = begin(b, 'D');
    put16(b, 1);
    put32(b, bytes);
    put(b, value, bytes);
    finish(b, at);
}

static void rows(Buffer *b, Answer answer, int binary) {
    static char filler[ROW_BYTES * ROWS_PER_MB];
    if (!filler[0]) memset(filler, 'x', sizeof filler);
    switch (answer) {
        case MANY_ROWS:
            for (int i = 0; i < ROWS_PER_MB; i++) data_row(b, filler, ROW_BYTES);
            command_complete(b, "SELECT 1024");
            return;
        case BIG_ROW:
            data_row(b, filler, sizeof filler);
            break;
        case PROBE_ROW:
            probe_row(b, binary);
            break;
        default:
            if (binary) data_row(b, "\0\0\0\0", 4);
            else data_row(b, "0", 1);
    }
    command_complete(b, "SELECT 1");
}

/* ---- statements ---- */

static int starts_with(const char *text, size_t n, const char *word) {
    size_t length = strlen(word);
    if (n < length || strncasecmp(text, word, length) != 0) return 0;
    char after = n > length ? text[length] : ' ';
    return !((after >= 'a' && after <= 'z') || (after >= 'A' && after <= 'Z') || after == '_');
}

static Answer classify(const char *text, size_t n) {
    static const struct {
        const char *word;
        Answer answer;
    } words[] = {
        {"BEGIN", BEGINS},     {"START", BEGINS},    {"COMMIT", COMMITS},     {"END", COMMITS},
        {"ROLLBACK", ROLLS_BACK}, {"ABORT", ROLLS_BACK}, {"SET", SETS},       {"RESET", RESETS},
        {"DISCARD", RESETS},   {"INSERT", INSERTS},  {"UPDATE", UPDATES},     {"DELETE", DELETES},
        {"DEALLOCATE", OTHER}, {"LISTEN", OTHER},    {"UNLISTEN", OTHER},     {"CLOSE", OTHER},
    };
    while (n && (*text == ' ' || *text == '\n' || *text == '\t' || *text == '\r')) text++, n--;
    if (!n) return EMPTY;
    if (starts_with(text, n, "SELECT")) {
        if (memmem(text, n, "bench_", 6)) {
            if (memmem(text, n, "bench_big_row", 13)) return BIG_ROW;
            if (memmem(text, n, "bench_mb", 8)) return MANY_ROWS;
        }
        return memmem(text, n, "pg_current_wal_insert_lsn", 25) ? PROBE_ROW : ONE_ROW;
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (starts_with(text, n, words[i].word)) return words[i].answer;
    return ONE_ROW;
}

static int has_rows(Answer answer) { return answer <= BIG_ROW; }

static const char *tag_of(Answer answer) {
    switch (answer) {
        case BEGINS: return "BEGIN";
        case COMMITS: return "COMMIT";
        case ROLLS_BACK: return "ROLLBACK";
        case SETS: return "SET";
        case RESETS: return "RESET";
        case INSERTS: return "INSERT 0 1";
        case UPDATES: return "UPDATE 1";
        case DELETES: return "DELETE 1";
        default: return "DEALLOCATE";
    }
}

/* PostgreSQL reports an encoding by its own name, whatever spelling it was asked for. */
static void keep_setting(char *setting, int which, const char *value, size_t n) {
    if (strcmp(SETTING_NAMES[which], "client_encoding") == 0 && strncasecmp(value, "utf", 3) == 0) {
        strcpy(setting, "UTF8");
        return;
    }
    memcpy(setting, value, n);
    setting[n] = 0;
}

/* Take `SET [SESSION|LOCAL] name {=|TO} value` to heart when `name` is one we report. */
static void apply_set(Connection *c, const char *text, size_t n) {
    char copy[512];
    if (n >= sizeof copy) return;
    memcpy(copy, text, n);
    copy[n] = 0;
    for (int i = 0; i < SETTINGS; i++) {
        const char *name = strcasestr(copy, SETTING_NAMES[i]);
        if (!name) continue;
        const char *value = name + strlen(SETTING_NAMES[i]);
        value += strspn(value, " \t\"=");
        if (strncasecmp(value, "TO", 2) == 0) value += 2;
        value += strspn(value, " \t'\"");
        size_t length = strcspn(value, "'\";");
        while (length && value[length - 1] == ' ') length--;
        if (length >= SETTING_BYTES) return;
        keep_setting(c->settings[i], i, value, length);
        parameter_status(&c->out, SETTING_NAMES[i], c->settings[i]);
        return;
    }
}

static void apply_reset(Connection *c) {
    for (int i = 0; i < SETTINGS; i++) {
        if (strcmp(c->settings[i], c->at_login[i]) == 0) continue;
        memcpy(c->settings[i], c->at_login[i], SETTING_BYTES);
        parameter_status(&c->out, SETTING_NAMES[i], c->settings[i]);
    }
}

static void move_status(Connection *c, Answer answer) {
    if (answer == BEGINS) c->status = 'T';
    if (answer == COMMITS || answer == ROLLS_BACK) c->status = 'I';
}

/* Run one statement of a simple query, without the ReadyForQuery. */
static void run_simple(Connection *c, const char *text, size_t n) {
    Answer answer = classify(text, n);
    if (answer == SETS) apply_set(c, text, n);
    if (answer == RESETS) apply_reset(c);
    move_status(c, answer);
    if (has_rows(answer)) {
        row_description(&c->out, answer, 0);
        rows(&c->out, answer, 0);
    } else if (answer != EMPTY) {
        command_complete(&c->out, tag_of(answer));
    }
}

/* A simple query may hold several statements; quotes hide semicolons. */
static void simple_query(Connection *c, const char *text, size_t n) {
    if (c->status == 'I') {
        /* The usual single statement, and the large replies, which are ready-made. */
        Answer answer = memchr(text, ';', n ? n - 1 : 0) ? OTHER : classify(text, n);
        if (answer == MANY_ROWS || answer == BIG_ROW) {
            c->bulk = answer == MANY_ROWS ? &many_rows : &big_row;
            c->bulk_sent = 0;
            return;
        }
    }
    int statements = 0;
    size_t start = 0;
    char quote = 0;
    for (size_t i = 0; i <= n; i++) {
        if (i < n && quote) {
            if (text[i] == quote) quote = 0;
            continue;
        }
        if (i < n && (text[i] == '\'' || text[i] == '"')) {
            quote = text[i];
            continue;
        }
        if (i == n || text[i] == ';') {
            if (classify(text + start, i - start) != EMPTY) {
                run_simple(c, text + start, i - start);
                statements++;
            }
            start = i + 1;
        }
    }
    if (!statements) finish(&c->out, begin(&c->out, 'I'));
    ready(&c->out, c->status);
}

/* ---- the extended protocol ---- */

static uint64_t hash_name(const char *name, uint64_t seed) {
    uint64_t h = 14695981039346656037ull ^ seed; /* FNV-1a */
    while (*name) h = (h ^ (uint8_t)*name++) * 1099511628211ull;
    return h ? h : 1;
}

/* The slot of a statement or portal; NULL when it does not exist (or cannot be made). */
static Prepared *find(Connection *c, char kind, const char *name, int make) {
    if (!*name) return kind == 'S' ? &c->unnamed_statement : &c->unnamed_portal;
    if (!c->named) {
        if (!make) return NULL;
        c->named = calloc(STATEMENT_SLOTS, sizeof(Prepared));
        if (!c->named) return NULL;
    }
    uint64_t key = hash_name(name, (uint64_t)kind);
    for (size_t i = 0; i < STATEMENT_SLOTS; i++) {
        Prepared *slot = &c->named[(key + i) % STATEMENT_SLOTS];
        if (slot->key == key) return slot;
        if (!slot->key) {
            if (!make) return NULL;
            slot->key = key;
            return slot;
        }
    }
    return NULL;
}

static const char *text_at(const char **at, const char *end) {
    const char *text = *at;
    const char *zero = memchr(text, 0, (size_t)(end - text));
    if (!zero) return NULL;
    *at = zero + 1;
    return text;
}

static uint16_t read16(const char *at) {
    uint16_t v;
    memcpy(&v, at, 2);
    return ntohs(v);
}

static uint32_t read32(const char *at) {
    uint32_t v;
    memcpy(&v, at, 4);
    return ntohl(v);
}

static int parse_message(Connection *c, const char *at, const char *end) {
    const char *name = text_at(&at, end);
    const char *text = name ? text_at(&at, end) : NULL;
    if (!text) return -1;
    size_t n = strlen(text);
    Prepared *statement = find(c, 'S', name, 1);
    if (!statement) return -1;
    unsigned highest = 0;
    for (const char *p = memchr(text, '$', n); p; p = strchr(p + 1, '$')) {
        unsigned number = (unsigned)strtoul(p + 1, NULL, 10);
        if (number > highest && number < 1000) highest = number;
    }
    statement->answer = (uint8_t)classify(text, n);
    statement->parameters = (uint16_t)highest;
    if (statement->answer == SETS) apply_set(c, text, n);
    put(&c->out, "1\0\0\0\4", 5);
    return 0;
}

static int bind_message(Connection *c, const char *at, const char *end) {
    const char *portal_name = text_at(&at, end);
    const char *name = portal_name ? text_at(&at, end) : NULL;
    if (!name || end - at < 2) return -1;
    unsigned formats = read16(at);
    at += 2 + 2 * (size_t)formats;
    if (end - at < 2) return -1;
    unsigned parameters = read16(at);
    at += 2;
    for (unsigned i = 0; i < parameters; i++) {
        if (end - at < 4) return -1;
        uint32_t bytes = read32(at);
        at += 4;
        if (bytes == 0xffffffff) continue; /* NULL */
        if ((size_t)(end - at) < bytes) return -1;
        at += bytes;
    }
    if (end - at < 2) return -1;
    unsigned results = read16(at);
    int binary = results && end - at >= 4 ? read16(at + 2) : 0;
    Prepared *statement = find(c, 'S', name, 0);
    Prepared *portal = statement ? find(c, 'P', portal_name, 1) : NULL;
    if (!portal) return -1;
    portal->answer = statement->answer;
    portal->parameters = statement->parameters;
    portal->binary = (uint8_t)binary;
    put(&c->out, "2\0\0\0\4", 5);
    return 0;
}

static int describe_message(Connection *c, const char *at, const char *end) {
    if (end - at < 2) return -1;
    char kind = *at++;
    const char *name = text_at(&at, end);
    Prepared *what = name ? find(c, kind, name, 0) : NULL;
    if (!what) return -1;
    if (kind == 'S') {
        size_t message = begin(&c->out, 't');
        put16(&c->out, what->parameters);
        for (unsigned i = 0; i < what->parameters; i++) put32(&c->out, 25);
        finish(&c->out, message);
    }
    if (has_rows(what->answer)) row_description(&c->out, what->answer, kind == 'P' && what->binary);
    else finish(&c->out, begin(&c->out, 'n'));
    return 0;
}

static int execute_message(Connection *c, const char *at, const char *end) {
    const char *name = text_at(&at, end);
    Prepared *portal = name ? find(c, 'P', name, 0) : NULL;
    if (!portal) return -1;
    Answer answer = portal->answer;
    move_status(c, answer);
    if (answer == RESETS) apply_reset(c);
    if (has_rows(answer)) rows(&c->out, answer, portal->binary);
    else if (answer == EMPTY) finish(&c->out, begin(&c->out, 'I'));
    else command_complete(&c->out, tag_of(answer));
    return 0;
}

/* ---- a connection's life ---- */

static void hang_up(Connection *c) {
    close(c->fd);
    free(c->in.bytes);
    free(c->out.bytes);
    free(c->named);
    free(c);
}

static int login(Connection *c, const char *at, const char *end) {
    const char *user = "";
    for (int i = 0; i < SETTINGS; i++) strcpy(c->settings[i], SETTING_DEFAULTS[i]);
    while (at < end && *at) {
        const char *name = text_at(&at, end);
        const char *value = name ? text_at(&at, end) : NULL;
        if (!value) return -1;
        if (strcmp(name, "user") == 0) user = value;
        for (int i = 0; i < SETTINGS; i++) {
            if (strcasecmp(name, SETTING_NAMES[i]) != 0) continue;
            const char *bare = value + strspn(value, "'");
            size_t n = strcspn(bare, "'");
            if (n < SETTING_BYTES) keep_setting(c->settings[i], i, bare, n);
        }
    }
    memcpy(c->at_login, c->settings, sizeof c->settings);
    Buffer *b = &c->out;
    size_t message = begin(b, 'R');
    put32(b, 0);
    finish(b, message);
    for (int i = 0; i < SETTINGS; i++) parameter_status(b, SETTING_NAMES[i], c->settings[i]);
    parameter_status(b, "default_transaction_read_only", "off");
    parameter_status(b, "in_hot_standby", "off");
    parameter_status(b, "integer_datetimes", "on");
    parameter_status(b, "is_superuser", "on");
    parameter_status(b, "server_encoding", "UTF8");
    parameter_status(b, "server_version", "16.4");
    parameter_status(b, "session_authorization", user);
    message = begin(b, 'K');
    put32(b, next_backend++);
    put32(b, 0x5eed5eed);
    finish(b, message);
    ready(b, 'I');
    c->logged_in = 1;
    c->status = 'I';
    return 0;
}

/* Before login: SSLRequest, GSSENCRequest, CancelRequest or StartupMessage. -1: hang up. */
static int first_packet(Connection *c, const char *body, size_t n) {
    if (n < 4) return -1;
    uint32_t code = read32(body);
    if (code == 80877103 || code == 80877104) {
        put(&c->out, "N", 1);
        return 0;
    }
    if (code >> 16 != 3) return -1; /* cancel requests too: nothing here runs long enough */
    if (code & 0xffff) {
        size_t message = begin(&c->out, 'v'); /* NegotiateProtocolVersion: 3.0, all options known */
        put32(&c->out, 0x30000);
        put32(&c->out, 0);
        finish(&c->out, message);
    }
    return login(c, body + 4, body + n);
}

static int one_message(Connection *c, char type, const char *body, size_t n) {
    const char *end = body + n;
    switch (type) {
        case 'Q': {
            const char *at = body;
            const char *text = text_at(&at, end);
            if (!text) return -1;
            simple_query(c, text, strlen(text));
            return 0;
        }
        case 'P': return parse_message(c, body, end);
        case 'B': return bind_message(c, body, end);
        case 'D': return describe_message(c, body, end);
        case 'E': return execute_message(c, body, end);
        case 'C': {
            if (n < 2) return -1;
            put(&c->out, "3\0\0\0\4", 5); /* the name may be prepared anew: nothing to forget */
            return 0;
        }
        case 'S': ready(&c->out, c->status); return 0;
        case 'H': return 0;
        default: return -1; /* Terminate, or something we do not serve */
    }
}

/* Answer every complete message; returns the bytes used, or -1 to hang up. */
static ssize_t answer_all(Connection *c, const char *bytes, size_t n) {
    size_t at = 0;
    while (!c->bulk) {
        size_t head = c->logged_in ? 5 : 4;
        if (n - at < head) break;
        uint32_t length = read32(bytes + at + head - 4);
        if (length < 4 || length > MAX_MESSAGE_BYTES) return -1;
        size_t whole = head - 4 + length;
        if (n - at < whole) break;
        const char *body = bytes + at + head;
        int failed = c->logged_in ? one_message(c, bytes[at], body, length - 4)
                                  : first_packet(c, body, length - 4);
        if (failed) return -1;
        at += whole;
    }
    return (ssize_t)at;
}

/* Send what waits. 1: all gone, 0: the kernel is full, -1: the peer is gone. */
static int flush(Connection *c) {
    while (c->sent < c->out.used) {
        ssize_t n = send(c->fd, c->out.bytes + c->sent, c->out.used - c->sent, MSG_NOSIGNAL);
        if (n < 0) return errno == EAGAIN ? 0 : -1;
        c->sent += (size_t)n;
    }
    c->sent = c->out.used = 0;
    while (c->bulk) {
        ssize_t n = send(c->fd, c->bulk->bytes + c->bulk_sent, c->bulk->used - c->bulk_sent,
                         MSG_NOSIGNAL);
        if (n < 0) return errno == EAGAIN ? 0 : -1;
        c->bulk_sent += (size_t)n;
        if (c->bulk_sent == c->bulk->used) c->bulk = NULL;
    }
    return 1;
}

static void watch(Connection *c, int out) {
    if (c->wants_out == out) return;
    c->wants_out = out;
    struct epoll_event event = {.events = out ? EPOLLOUT : EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

/* Take the answered bytes out of `in`. */
static void consume(Connection *c, size_t used) {
    memmove(c->in.bytes, c->in.bytes + used, c->in.used - used);
    c->in.used -= used;
}

/* Send, and answer what waited behind a large reply. 1: all gone, 0: the kernel is full, -1: end. */
static int pump(Connection *c) {
    for (;;) {
        int done = flush(c);
        if (done <= 0 || c->in.used == 0) return done;
        ssize_t used = answer_all(c, c->in.bytes, c->in.used);
        if (used <= 0) return used < 0 ? -1 : 1;
        consume(c, (size_t)used);
    }
}

/* 0 or more: bytes read and answered or kept; -1: hang up. */
static int take(Connection *c) {
    if (c->in.used == 0) {
        ssize_t n = recv(c->fd, scratch, sizeof scratch, 0);
        if (n < 0 && errno == EAGAIN) return 0;
        if (n <= 0) return -1;
        ssize_t used = answer_all(c, scratch, (size_t)n);
        if (used < 0) return -1;
        if (used < n) put(&c->in, scratch + used, (size_t)(n - used));
        return 0;
    }
    need(&c->in, READ_BYTES);
    ssize_t n = recv(c->fd, c->in.bytes + c->in.used, READ_BYTES, 0);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) return -1;
    c->in.used += (size_t)n;
    ssize_t used = answer_all(c, c->in.bytes, c->in.used);
    if (used < 0) return -1;
    consume(c, (size_t)used);
    return 0;
}

/* While a reply is stuck nothing is read: the peer that does not read gets no more answers. */
static void serve(Connection *c) {
    int done = c->wants_out || take(c) == 0 ? pump(c) : -1;
    if (done < 0) hang_up(c);
    else watch(c, done == 0);
}

static void welcome(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        Connection *c = calloc(1, sizeof *c);
        if (!c) {
            close(fd);
            return;
        }
        c->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

static void prepare_large_replies(void) {
    row_description(&many_rows, MANY_ROWS, 0);
    rows(&many_rows, MANY_ROWS, 0);
    ready(&many_rows, 'I');
    row_description(&big_row, BIG_ROW, 0);
    rows(&big_row, BIG_ROW, 0);
    ready(&big_row, 'I');
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: stub PORT\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    prepare_large_replies();

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)atoi(argv[1])),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("stub: cannot listen");
        return 1;
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);

    struct epoll_event events[MAX_EVENTS];
    for (;;) {
        int n = epoll_wait(epoll_fd, events, MAX_EVENTS, -1);
        if (n < 0 && errno != EINTR) {
            perror("stub: epoll_wait");
            return 1;
        }
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr) serve(events[i].data.ptr);
            else welcome(listener);
        }
    }
}
