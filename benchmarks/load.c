/*
 * Many clients in one cheap process.
 *
 * What it is for: two measurements pgbench cannot make. On a small machine pgbench and the server
 * share one core and are full before a good proxy on the other core is; this loader costs about
 * half as much per statement, so the proxy is what is full. And ten thousand clients that log in and
 * then mostly sit there.
 *
 * What it decides: nothing. It is told what to do by lines on standard input and answers each with
 * one line of JSON on standard output, so whoever drives it can look at the proxy between two steps:
 *
 *   open N        log N clients in, a few at a time        {"opened": N, "errors": 0}
 *   run K MS      the first K clients ask, one statement    {"transactions": ..., "errors": ...,
 *                 each at a time, for MS milliseconds        "seconds": ..., "p50_us": ...}
 *   sweep         every client asks once, a few at a time     {"transactions": N, "errors": 0}
 *
 * End of input closes everything. A client that fails is closed, counted and not opened again.
 *
 * Usage: load PORT MODE        MODE: simple, extended or prepared; user `app`, database `bench`,
 * no password.
 *
 * Protocol facts: PostgreSQL documentation, chapter "Frontend/Backend Protocol".
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
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_EVENTS = 512, READ_BYTES = 1 << 16, AT_A_TIME = 64, PATIENCE_MS = 30000 };
/* Latencies: 64 buckets for each power of two, so a bucket is at most 1.6 % wide. */
enum { SUB_BITS = 6, SUB = 1 << SUB_BITS, BUCKETS = 40 * SUB };

typedef enum { SIMPLE, EXTENDED, PREPARED } Mode;
typedef enum { CLOSED, LOGGING_IN, IDLE, ASKING } State;

typedef struct {
    int fd;
    State state;
    uint8_t header[5]; /* of the message being read; it may be cut anywhere */
    uint8_t have;      /* bytes of the header read */
    uint8_t readies;   /* ReadyForQuery seen since the login began */
    uint32_t skip;     /* bytes of the body still to come */
    uint64_t since_ns;
} Client;

static int epoll_fd;
static int port;
static Mode mode;
static Client *clients;
static size_t client_count;
static size_t waiting; /* clients that owe us an answer */
static uint64_t errors, transactions;
static uint64_t until_ns; /* asking goes on until then */
static uint64_t histogram[BUCKETS];
static uint8_t scratch[READ_BYTES];
static uint32_t random_state = 12345;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* ---- latencies, microseconds ---- */

static void record(uint64_t us) {
    unsigned power = us >> SUB_BITS ? 63u - (unsigned)__builtin_clzll(us) - SUB_BITS : 0;
    size_t bucket = us < SUB ? us : (size_t)power * SUB + (us >> power);
    if (bucket >= BUCKETS) bucket = BUCKETS - 1;
    histogram[bucket]++;
}

static uint64_t percentile(double share) {
    uint64_t total = 0, seen = 0;
    for (size_t i = 0; i < BUCKETS; i++) total += histogram[i];
    for (size_t i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (total && (double)seen >= share * (double)total) {
            if (i < 2 * SUB) return i;
            size_t power = i / SUB - 1;
            return (uint64_t)(i - power * SUB) << power;
        }
    }
    return 0;
}

/* ---- what a client says ---- */

static size_t add(uint8_t *to, size_t at, const void *bytes, size_t n) {
    memcpy(to + at, bytes, n);
    return at + n;
}

/* One message: type, length, body. */
static size_t message(uint8_t *to, size_t at, char type, const void *body, size_t n) {
    uint32_t length = htonl((uint32_t)n + 4);
    to[at] = (uint8_t)type;
    memcpy(to + at + 1, &length, 4);
    return add(to, at + 5, body, n);
}

static size_t question(uint8_t *to, Mode how) {
    char text[128];
    random_state = random_state * 1664525u + 1013904223u;
    unsigned aid = random_state % 100000u + 1;
    if (how == SIMPLE) {
        int n = snprintf(text, sizeof text,
                         "SELECT abalance FROM pgbench_accounts WHERE aid = %u;", aid);
        return message(to, 0, 'Q', text, (size_t)n + 1);
    }
    static const char parse[] = "\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0";
    size_t at = how == EXTENDED ? message(to, 0, 'P', parse, sizeof parse) : 0;
    uint8_t bind[64];
    size_t n = add(bind, 0, "", 1);
    n = how == PREPARED ? add(bind, n, "P_0", 4) : add(bind, n, "", 1);
    n = add(bind, n, "\0\0\0\1", 4); /* formats: all text; one parameter */
    int digits = snprintf(text, sizeof text, "%u", aid);
    uint32_t length = htonl((uint32_t)digits);
    n = add(bind, n, &length, 4);
    n = add(bind, n, text, (size_t)digits);
    n = add(bind, n, "\0\1\0\0", 4); /* one format for all results: text, as libpq sends it */
    at = message(to, at, 'B', bind, n);
    at = message(to, at, 'D', "P\0", 2);
    at = message(to, at, 'E', "\0\0\0\0\0", 5);
    return message(to, at, 'S', "", 0);
}

static void drop(Client *c) {
    if (c->state == CLOSED) return;
    if (c->state != IDLE) waiting--;
    close(c->fd);
    c->state = CLOSED;
    errors++;
}

static void say(Client *c, const uint8_t *bytes, size_t n) {
    /* A question fits any socket buffer; a short send means that the peer is broken. */
    if (send(c->fd, bytes, n, MSG_NOSIGNAL) != (ssize_t)n) drop(c);
}

static void ask(Client *c, Mode how) {
    uint8_t bytes[512];
    if (c->state == IDLE) waiting++;
    c->state = ASKING;
    c->since_ns = now_ns();
    say(c, bytes, question(bytes, how));
}

static void log_in(Client *c) {
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    static const char startup[] = "\0\3\0\0user\0app\0database\0bench\0application_name\0load\0";
    uint8_t bytes[256];
    uint32_t length = htonl(sizeof startup + 4);
    size_t n = add(bytes, 0, &length, 4);
    n = add(bytes, n, startup, sizeof startup);
    if (mode == PREPARED) {
        static const char parse[] = "P_0\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0";
        n = message(bytes, n, 'P', parse, sizeof parse);
        n = message(bytes, n, 'S', "", 0);
    }
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    waiting++;
    c->state = LOGGING_IN;
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) {
        drop(c);
        return;
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
    /* Statements after the startup packet: a login without a password has no further question. */
    size_t first = ntohl(length);
    say(c, bytes, first);
    if (c->state == LOGGING_IN && n > first) say(c, bytes + first, n - first);
}

/* ---- what a client hears ---- */

static void answered(Client *c) {
    uint64_t now = now_ns();
    if (c->state == ASKING) {
        transactions++;
        record((now - c->since_ns) / 1000);
        if (now < until_ns) {
            ask(c, mode);
            return;
        }
    }
    c->state = IDLE;
    waiting--;
}

/* Walk over the messages; only ErrorResponse and ReadyForQuery mean anything here. */
static void listen_to(Client *c, int *readies) {
    ssize_t n = recv(c->fd, scratch, sizeof scratch, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        drop(c);
        return;
    }
    size_t at = 0, end = (size_t)n;
    while (at < end) {
        if (c->skip) {
            size_t step = c->skip < end - at ? c->skip : end - at;
            c->skip -= (uint32_t)step;
            at += step;
        } else {
            c->header[c->have++] = scratch[at++];
            if (c->have < 5) continue;
            uint32_t length;
            memcpy(&length, c->header + 1, 4);
            c->skip = ntohl(length) - 4;
            c->have = 0;
            if (c->header[0] == 'E') {
                drop(c);
                return;
            }
        }
        if (c->have == 0 && c->skip == 0 && c->header[0] == 'Z') {
            (*readies)++;
            c->header[0] = 0;
        }
    }
}

/* Turn the loop until nobody owes an answer; false when nothing was heard for PATIENCE_MS. */
static int turn_until(size_t owed) {
    struct epoll_event events[MAX_EVENTS];
    while (waiting > owed) {
        int n = epoll_wait(epoll_fd, events, MAX_EVENTS, PATIENCE_MS);
        if (n == 0) return 0;
        for (int i = 0; i < n; i++) {
            Client *c = events[i].data.ptr;
            int readies = 0;
            listen_to(c, &readies);
            if (c->state == CLOSED || !readies) continue;
            /* In prepared mode a login ends with the second ReadyForQuery, that of the Parse. */
            if (c->state == LOGGING_IN && mode == PREPARED) {
                c->readies = (uint8_t)(c->readies + readies);
                if (c->readies < 2) continue;
            }
            answered(c);
        }
    }
    return 1;
}

static void give_up_on_waiting(void) {
    for (size_t i = 0; i < client_count; i++)
        if (clients[i].state == LOGGING_IN || clients[i].state == ASKING) drop(&clients[i]);
}

static void open_clients(size_t n) {
    clients = calloc(n, sizeof *clients);
    if (!clients) exit(1);
    client_count = n;
    for (size_t i = 0; i < n; i++) {
        log_in(&clients[i]);
        if (waiting >= AT_A_TIME && !turn_until(AT_A_TIME / 2)) break;
    }
    if (!turn_until(0)) give_up_on_waiting();
    size_t open = 0;
    for (size_t i = 0; i < n; i++) open += clients[i].state == IDLE;
    printf("{\"opened\": %zu, \"errors\": %lu}\n", open, (unsigned long)errors);
}

static void run(size_t active, uint64_t ms) {
    memset(histogram, 0, sizeof histogram);
    transactions = 0;
    errors = 0;
    uint64_t start = now_ns();
    until_ns = start + ms * 1000000ull;
    for (size_t i = 0; i < active && i < client_count; i++)
        if (clients[i].state == IDLE) ask(&clients[i], mode);
    if (!turn_until(0)) give_up_on_waiting();
    double seconds = (double)(now_ns() - start) / 1e9;
    printf("{\"transactions\": %lu, \"errors\": %lu, \"seconds\": %.6f, "
           "\"p50_us\": %lu, \"p95_us\": %lu, \"p99_us\": %lu}\n",
           (unsigned long)transactions, (unsigned long)errors, seconds,
           (unsigned long)percentile(0.50), (unsigned long)percentile(0.95),
           (unsigned long)percentile(0.99));
}

/* Everybody once, a few at a time: is each connection still good? */
static void sweep(void) {
    memset(histogram, 0, sizeof histogram);
    transactions = 0;
    errors = 0;
    until_ns = 0;
    for (size_t i = 0; i < client_count; i++) {
        if (clients[i].state == IDLE) ask(&clients[i], mode);
        if (waiting >= AT_A_TIME && !turn_until(AT_A_TIME / 2)) break;
    }
    if (!turn_until(0)) give_up_on_waiting();
    printf("{\"transactions\": %lu, \"errors\": %lu}\n", (unsigned long)transactions,
           (unsigned long)errors);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: load PORT simple|extended|prepared\n");
        return 2;
    }
    port = atoi(argv[1]);
    mode = strcmp(argv[2], "simple") == 0 ? SIMPLE
         : strcmp(argv[2], "extended") == 0 ? EXTENDED : PREPARED;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    setvbuf(stdout, NULL, _IOLBF, 0);

    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        unsigned long first = 0, second = 0;
        if (sscanf(line, "open %lu", &first) == 1 && !clients) open_clients(first);
        else if (sscanf(line, "run %lu %lu", &first, &second) == 2) run(first, second);
        else if (strncmp(line, "sweep", 5) == 0) sweep();
        else {
            fprintf(stderr, "load: cannot do %s", line);
            return 2;
        }
    }
    return 0;
}
