/* How fast the threads are alone: source and sink in memory (bench/core.py). No system call, no kernel.
 *
 *   sending    each thread seals super-packets of a flow of its own, all on one tunnel: its counters are shared
 *   receiving  one tunnel's datagrams, sealed before the clock runs, come by one line (line.c) that all threads serve:
 *              read (copied, as the kernel would), opened, marked in one replay window, and put together in order */
#include "module.h"
#include "worker.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    BENCH_TUNNEL = 1,
    SEGMENT = 1360,
    SEGMENTS = 45,
    HEAD = 52,
    PAYLOAD = SEGMENT * SEGMENTS,
    FLOWS = 8,
    MESSAGES = 1024, /* sealed before each round of receiving: 65 MB */
};

struct sealed {
    uint8_t *data;
    size_t size;
    unsigned width;
};

struct lane {
    struct stand *stand;
    pthread_t thread;
    bool failed;
    unsigned number;
    int64_t until;
    struct sender sender;
    uint8_t packet[VNET_BYTES + HEAD + PAYLOAD], *scratch;
};

/* What is measured on. */
struct stand {
    struct core *core;
    struct line *line;
    struct lane *lanes;
    unsigned threads;
    struct sealed *sealed; /* MESSAGES of them */
    unsigned kept, taken;  /* of those */
    _Atomic uint64_t sent, written, writes;
};

/* Sending. */

static void keep(struct sender *sender, struct tunnel *tunnel, struct path *path, const uint8_t *data, size_t size,
                 unsigned width, unsigned count, unsigned ecn)
{
    struct lane *lane = sender->context;
    struct stand *stand = lane->stand;
    atomic_fetch_add_explicit(&stand->sent, size - (size_t)count * (OVERHEAD_BYTES + HEAD), memory_order_relaxed);
    if (!stand->sealed || stand->kept == MESSAGES)
        return;
    struct sealed *sealed = &stand->sealed[stand->kept++];
    memcpy(sealed->data, data, size);
    sealed->size = size;
    sealed->width = width;
}

static void send_one(struct lane *lane)
{
    memcpy(lane->sender.input, lane->packet, sizeof lane->packet);
    sender_take(&lane->sender, sizeof lane->packet, 1);
    sender_flush(&lane->sender, 1);
}

static void *run_sending(void *argument)
{
    struct lane *lane = argument;
    while (now_ns() < lane->until)
        send_one(lane);
    return NULL;
}

/* Receiving. */

static void count_write(struct receiver *receiver, unsigned queue, const struct iovec *parts, int count)
{
    struct stand *stand = receiver->context;
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    atomic_fetch_add_explicit(&stand->written, size, memory_order_relaxed);
    atomic_fetch_add_explicit(&stand->writes, 1, memory_order_relaxed);
}

static bool fill_from_memory(struct line *line, struct load *load, struct udp_socket *socket)
{
    struct stand *stand = line->receiver.context;
    load->now = 1;
    while (load->count < FEW && stand->taken < stand->kept) {
        const struct sealed *sealed = &stand->sealed[stand->taken++];
        struct batch *batch = &load->batches[load->count];
        *batch = (struct batch){.data = load->messages[load->count++].data, .size = sealed->size,
                                .segment = sealed->width, .socket = socket};
        memcpy(batch->data, sealed->data, sealed->size);
    }
    return stand->taken < stand->kept;
}

static void *run_receiving(void *argument)
{
    struct lane *lane = argument;
    struct stand *stand = lane->stand;
    while (line_take(stand->line, &stand->core->sockets[0], FIRST_RECEIVER + lane->number, lane->scratch, false))
        ;
    return NULL;
}

/* A super-packet of a host's, of which the receiving side has the same row. */
static void make_packet(struct lane *lane)
{
    struct vnet vnet = {NEEDS_CHECKSUM, GSO_TCP4, HEAD, SEGMENT, 20, 16};
    uint8_t *packet = lane->packet + VNET_BYTES;
    memcpy(lane->packet, &vnet, VNET_BYTES);
    packet[0] = 0x45, packet[6] = 0x40, packet[8] = 64, packet[9] = TCP;
    write16(packet + 2, HEAD + PAYLOAD);
    write32(packet + 12, 0x0AC90002), write32(packet + 16, 0xC0000250 + lane->number);
    write16(packet + 20, 40000), write16(packet + 22, 443);
    packet[32] = 0x80, packet[33] = ACK;
}

/* Both sides are one core: what is sent has the host's row, and what comes another one. */
static bool add_row(struct core *core, struct lane *lane, bool inbound)
{
    struct view view;
    struct row *row = row_new(1, BENCH_TUNNEL);
    if (!row || !look(lane->packet + VNET_BYTES, HEAD + PAYLOAD, inbound, &view) ||
        !row_link(core, row, &view.key, true))
        return false;
    atomic_store(&row->answered, true);
    for (unsigned way = 0; way < WAYS; way++)
        atomic_store(&row->behind_until[way], 0);
    return true;
}

static bool make_tunnel(struct core *core, enum algorithm algorithm)
{
    static const uint8_t key[KEY_BYTES] = {1}, iv[IV_BYTES] = {2};
    struct tunnel *tunnel = tunnel_make(core, BENCH_TUNNEL);
    struct path *path = calloc(1, sizeof *path);
    struct send_key *send = calloc(1, sizeof *send);
    struct receive_keys *keys = calloc(1, sizeof *keys);
    struct receive_key *receive = calloc(1, sizeof *receive);
    if (!tunnel || !path || !send || !keys || !receive)
        return false; /* the process is about to end anyway */
    path->association = 1;
    path->socket = &core->sockets[0];
    path->socket->tunnel = NO_TUNNEL;
    path->inner_mtu = HEAD + SEGMENT;
    path->may_send = true;
    atomic_store(&tunnel->path, path);
    aead_init(&send->aead, algorithm, key, iv);
    send->first_word = SEALED << 24 | 1 << 24 | BENCH_TUNNEL;
    send->epoch = 1;
    atomic_store(&tunnel->send, send);
    receive_key_init(receive, algorithm, key, iv, 1, -1);
    keys->keys[keys->count++] = receive;
    atomic_store(&tunnel->receive, keys);
    atomic_store(&tunnel->current, 1);
    return true;
}

static bool lane_init(struct stand *stand, unsigned number)
{
    struct lane *lane = &stand->lanes[number];
    lane->stand = stand;
    lane->number = number;
    make_packet(lane);
    return (lane->scratch = malloc(65536)) &&
           sender_init(&lane->sender, stand->core, FIRST_SENDER + number % MAX_WORKERS, keep, lane) &&
           add_row(stand->core, lane, false) && add_row(stand->core, lane, true);
}

static bool stand_init(struct stand *stand, enum algorithm algorithm, unsigned threads, bool receiving)
{
    stand->threads = threads;
    stand->core = core_new();
    stand->lanes = calloc(FLOWS, sizeof *stand->lanes);
    bool ready = stand->core && stand->lanes && make_tunnel(stand->core, algorithm) &&
                 (stand->line = line_new(stand->core, threads, fill_from_memory, count_write, stand));
    for (unsigned i = 0; ready && i < FLOWS; i++)
        ready = lane_init(stand, i);
    stand->sealed = ready && receiving ? calloc(MESSAGES, sizeof *stand->sealed) : NULL;
    for (unsigned i = 0; stand->sealed && ready && i < MESSAGES; i++)
        ready = (stand->sealed[i].data = malloc(65536)) != NULL;
    return ready && !receiving == !stand->sealed;
}

static void stand_free(struct stand *stand)
{
    for (unsigned i = 0; i < MESSAGES && stand->sealed; i++)
        free(stand->sealed[i].data);
    free(stand->sealed);
    for (unsigned i = 0; i < FLOWS && stand->lanes; i++) {
        sender_clear(&stand->lanes[i].sender);
        free(stand->lanes[i].scratch);
    }
    free(stand->lanes);
    if (stand->line)
        line_free(stand->line);
    if (stand->core)
        core_free(stand->core);
}

/* Let all threads run `what`, and add to the seconds of the clock and of the processors. */
static void run_all(struct stand *stand, void *(*what)(void *), int64_t until, double *took, double *processors)
{
    struct timespec before, after;
    const int64_t began = now_ns();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    for (unsigned i = 0; i < stand->threads; i++) {
        stand->lanes[i].until = until;
        stand->lanes[i].failed = pthread_create(&stand->lanes[i].thread, NULL, what, &stand->lanes[i]);
    }
    for (unsigned i = 0; i < stand->threads; i++)
        if (!stand->lanes[i].failed)
            pthread_join(stand->lanes[i].thread, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    *took += to_seconds(now_ns() - began);
    *processors += (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
}

/* The flows take turns: what comes in one tunnel is of many. */
static void seal_some(struct stand *stand)
{
    stand->kept = stand->taken = 0;
    for (unsigned i = 0; stand->kept < MESSAGES && i < MESSAGES; i++)
        send_one(&stand->lanes[i % FLOWS]);
}

/* bench(threads, seconds, aead, receiving): (bytes sealed, bytes written, writes, seconds, seconds of processors); bytes
 * sealed are payload, those written include headers. */
PyObject *bench(PyObject *self, PyObject *arguments)
{
    unsigned int threads;
    double seconds, took = 0, processors = 0;
    int aead, receiving;
    struct stand stand = {0};
    if (!PyArg_ParseTuple(arguments, "Idip", &threads, &seconds, &aead, &receiving))
        return NULL;
    if (!threads || threads > MAX_WORKERS || seconds > 5 || /* an epoch has no more packets than that */
        (aead != AES_256_GCM && aead != CHACHA20_POLY1305))
        return PyErr_Format(PyExc_ValueError, "%u threads, cipher %d", threads, aead);
    if (!stand_init(&stand, (enum algorithm)aead, threads, receiving)) {
        stand_free(&stand);
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS
    if (!receiving)
        run_all(&stand, run_sending, now_ns() + to_ns(seconds), &took, &processors);
    while (receiving && took < seconds) {
        seal_some(&stand);
        run_all(&stand, run_receiving, 0, &took, &processors);
    }
    Py_END_ALLOW_THREADS
    PyObject *result = Py_BuildValue("(KKKdd)", (unsigned long long)atomic_load(&stand.sent),
                                     (unsigned long long)atomic_load(&stand.written),
                                     (unsigned long long)atomic_load(&stand.writes), took, processors);
    stand_free(&stand);
    return result;
}
