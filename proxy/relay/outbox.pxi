# What a pass sends.
#
# While events are handled, what is small is put aside, and sent when all of them are: first what is
# for servers, then what is for clients. Each peer then finds more to do when it wakes and goes to
# sleep less often, which saves the work of waking it, and the processor does the same thing many
# times in a row. docs/performance.md has the figures.

cdef enum:
    PARCELS = 64
    # More than this is worth a call of its own, and would crowd out the others.
    MOST_PARCEL_BYTES = 2048
    OUTBOX_BYTES = 32768


cdef int outbox_open(Outbox *box) except -1:
    box.parcels = <Parcel *>malloc(PARCELS * sizeof(Parcel))
    box.octets = <char *>malloc(OUTBOX_BYTES)
    if box.parcels == NULL or box.octets == NULL:
        raise MemoryError()
    return 0


cdef void outbox_free(Outbox *box) noexcept:
    free(box.parcels)
    free(box.octets)


cdef int outbox_send(Outbox *box) except -1:
    """Send all parcels, and keep what the kernel does not take with their links."""
    cdef const char *p = box.octets
    cdef int i, count = box.count
    cdef Link k
    box.count = 0
    box.end = 0
    for i in range(count):
        k = <Link>box.parcels[i].link
        k.posted = False
        if k.fd >= 0:
            link_send_now(k, p, box.parcels[i].length)
        p += box.parcels[i].length
    return 0


cdef int relay_sends(Relay relay) except -1:
    """Send what has been put aside for anybody."""
    outbox_send(&relay.for_servers)
    return outbox_send(&relay.for_clients)


cdef int link_post(Link k, const char *p, Py_ssize_t n) except -1:
    """Put aside at most MOST_PARCEL_BYTES for this link."""
    cdef Outbox *box = &k.relay.for_servers if k.side == SERVER_SIDE else &k.relay.for_clients
    if box.count == PARCELS or box.end + n > OUTBOX_BYTES:
        outbox_send(box)
    box.parcels[box.count].link = <PyObject *>k
    box.parcels[box.count].length = n
    box.count += 1
    memcpy(box.octets + box.end, p, n)
    box.end += n
    k.posted = True
    return 0
