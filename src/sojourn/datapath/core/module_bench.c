/* How fast the loops are alone: source and sink in memory, any number of threads on one tunnel (bench/core.py).
 *
 * Each thread takes super-packets of a flow of its own from memory, seals them, and opens what it has sealed, as
 * if the other end's thread did. All share the tunnel: counters are reserved, windows marked under one lock. */
#include "module.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BENCH_TUNNEL = 1, SEGMENT = 1360, SEGMENTS = 45, HEAD = 52, PAYLOAD = SEGMENT * SEGMENTS };

struct lane {
    struct core *core;
    pthread_t thread;
    unsigned number;
    int64_t until, processor_ns;
    bool open, failed;
    struct udp_socket *socket;
    struct sender sender;
    struct receiver receiver;
    uint8_t packet[VNET_BYTES + HEAD + PAYLOAD], *message;
    uint64_t sealed, opened, writes;
};

static void count_write(struct receiver *receiver, const struct iovec *parts, int count)
{
    struct lane *lane = receiver->context;
    for (int i = 0; i < count; i++)
        lane->opened += parts[i].iov_len;
    lane->writes++;
}

static void hand_over(struct sender *sender, struct tunnel *tunnel, struct path *path, const uint8_t *data, size_t size,
                      unsigned width, unsigned count, unsigned ecn)
{
    struct lane *lane = sender->context;
    struct batch batch = {.data = lane->message, .size = size, .segment = width, .socket = lane->socket, .from = path->to,
                          .from_bytes = path->to_bytes};
    lane->sealed += size - (size_t)count * (OVERHEAD_BYTES + HEAD);
    if (!lane->open)
        return;
    memcpy(lane->message, data, size); /* as the kernel copies it */
    receiver_take(&lane->receiver, &batch, 1);
    receiver_flush(&lane->receiver);
}

static void *run_lane(void *argument)
{
    struct lane *lane = argument;
    while (now_ns() < lane->until) {
        memcpy(lane->sender.input, lane->packet, sizeof lane->packet);
        sender_take(&lane->sender, sizeof lane->packet, 1);
        sender_flush(&lane->sender, 1);
    }
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    lane->processor_ns = used.tv_sec * 1000000000ll + used.tv_nsec;
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
    if (!row || !look(lane->packet + VNET_BYTES, HEAD + PAYLOAD, inbound, &view) || !row_link(core, row, &view.key, true))
        return false;
    atomic_store(&row->answered, true);
    for (unsigned way = 0; way < WAYS; way++)
        atomic_store(&row->behind_until[way], 0);
    return true;
}

static bool lane_init(struct lane *lane, struct core *core, unsigned number, int64_t until, bool open)
{
    lane->core = core;
    lane->number = number;
    lane->until = until;
    lane->open = open;
    lane->socket = &core->sockets[0];
    lane->message = malloc(65536);
    make_packet(lane);
    return lane->message && sender_init(&lane->sender, core, number + 1, hand_over, lane) &&
           receiver_init(&lane->receiver, core, number + 1, count_write, lane) && add_row(core, lane, false) && add_row(core, lane, true);
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
    aead_init(&receive->aead, algorithm, key, iv);
    receive->epoch = 1;
    receive->window.top = receive->window.floor = -1;
    keys->keys[keys->count++] = receive;
    atomic_store(&tunnel->receive, keys);
    atomic_store(&tunnel->current, 1);
    return true;
}

/* bench(threads, seconds, aead, open): (bytes sealed, bytes opened, writes, seconds, seconds of processors). Bytes are payload. */
PyObject *bench(PyObject *self, PyObject *arguments)
{
    unsigned int threads;
    double seconds;
    int aead, open;
    if (!PyArg_ParseTuple(arguments, "Idip", &threads, &seconds, &aead, &open))
        return NULL;
    if (!threads || threads >= MAX_THREADS || seconds > 5 || /* an epoch has no more packets than that */ (aead != AES_256_GCM && aead != CHACHA20_POLY1305))
        return PyErr_Format(PyExc_ValueError, "%u threads, cipher %d", threads, aead);
    struct core *core = core_new();
    struct lane *lanes = calloc(threads, sizeof *lanes);
    bool ready = core && lanes && make_tunnel(core, (enum algorithm)aead);
    unsigned long long sealed = 0, opened = 0, writes = 0;
    int64_t processor_ns = 0;
    int64_t began = now_ns();
    for (unsigned i = 0; ready && i < threads; i++)
        ready = lane_init(&lanes[i], core, i, began + to_ns(seconds), open);
    if (!ready)
        return PyErr_NoMemory();
    began = now_ns();
    Py_BEGIN_ALLOW_THREADS
    for (unsigned i = 0; i < threads; i++)
        lanes[i].failed = pthread_create(&lanes[i].thread, NULL, run_lane, &lanes[i]);
    for (unsigned i = 0; i < threads; i++)
        if (!lanes[i].failed)
            pthread_join(lanes[i].thread, NULL);
    Py_END_ALLOW_THREADS
    double took = to_seconds(now_ns() - began);
    for (unsigned i = 0; i < threads; i++) {
        sealed += lanes[i].sealed, opened += lanes[i].opened, writes += lanes[i].writes;
        processor_ns += lanes[i].processor_ns;
        sender_clear(&lanes[i].sender);
        receiver_clear(&lanes[i].receiver);
        free(lanes[i].message);
    }
    free(lanes);
    core_free(core);
    return Py_BuildValue("(KKKdd)", sealed, opened, writes, took, to_seconds(processor_ns));
}
