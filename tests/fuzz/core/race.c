/* Several threads on one core, for ThreadSanitizer: two that send, two that receive on one line, and one that does what
 * Python does: switches rows and paths, renews keys, takes births and notices, reads windows and counters.
 *
 * What is sent is what is received: the senders' datagrams go into a ring from which the line reads, so that windows,
 * counters and key changes meet as they do between two ends. Besides races it looks at what must hold: every nonce is
 * used once, no datagram is delivered twice, and what each flow sent arrives in order. Python's thread also sends probes, which
 * are answered by whoever delivers. */
#include "common.h"
#include "rules.h"
#include "worker.h"

#include <time.h>

enum { KEPT_EPOCHS = 16, COUNTERS = 1 << 21, FLOWS = 8, RING = 512, SENDERS = 2, RECEIVERS = 2, SEGMENT = 100, SEGMENTS = 20 };

static struct core *core;
static struct line *line;
static struct {
    pthread_mutex_t lock;
    uint64_t put, taken;
    struct {
        uint8_t data[4096];
        size_t size;
        unsigned width;
    } messages[RING];
} ring = {.lock = PTHREAD_MUTEX_INITIALIZER};
static _Atomic bool stopping;
static uint32_t heard[FLOWS]; /* sequence number that is next; the one who delivers has them */
static _Atomic uint64_t sent, delivered, lost, answered;
static unsigned born, moved;

/* A super-packet of a flow: `inbound` as the other end's, of which the line's side has the row. */
static size_t packet_of(uint8_t *packet, unsigned flow, uint32_t sequence)
{
    const size_t size = 40 + SEGMENT * SEGMENTS;
    memset(packet, 0, size);
    packet[0] = 0x45, packet[6] = 0x40, packet[8] = 64, packet[9] = TCP;
    write16(packet + 2, (uint32_t)size);
    write32(packet + 12, 0x0AC90002), write32(packet + 16, 0xC0000200 + flow);
    write16(packet + 20, 40000), write16(packet + 22, 443);
    write32(packet + 24, sequence);
    packet[32] = 0x50, packet[33] = ACK;
    return size;
}

/* Note the counters of a message; each may be used once in its epoch, of which the header has three bits. */
static void note_nonces(uint32_t newest, const uint8_t *data, size_t size, unsigned width)
{
    static uint64_t used[KEPT_EPOCHS][COUNTERS / 64];
    static uint32_t epochs[KEPT_EPOCHS];
    for (size_t at = 0; at < size; at += width) {
        const uint32_t epoch = newest - ((newest - data[at]) & 7), counter = read32(data + at + 4);
        uint64_t *mine = used[epoch % KEPT_EPOCHS];
        if (epochs[epoch % KEPT_EPOCHS] != epoch) {
            epochs[epoch % KEPT_EPOCHS] = epoch;
            memset(mine, 0, sizeof used[0]);
        }
        CHECK(counter < COUNTERS && !(mine[counter / 64] >> counter % 64 & 1));
        mine[counter / 64] |= 1ull << counter % 64;
    }
}

static void to_ring(struct sender *sender, struct tunnel *tunnel, struct path *path, const uint8_t *data, size_t size,
                    unsigned width, unsigned count, unsigned ecn)
{
    const uint32_t newest = atomic_load(&tunnel->send)->epoch;
    pthread_mutex_lock(&ring.lock);
    note_nonces(newest, data, size, width);
    if (ring.put - ring.taken < RING && size <= sizeof ring.messages[0].data) {
        unsigned at = ring.put++ % RING;
        memcpy(ring.messages[at].data, data, size);
        ring.messages[at].size = size;
        ring.messages[at].width = width;
        atomic_fetch_add(&sent, count);
    } else {
        atomic_fetch_add(&lost, count);
    }
    pthread_mutex_unlock(&ring.lock);
}

static bool from_ring(struct line *into, struct load *load, struct udp_socket *socket)
{
    pthread_mutex_lock(&ring.lock);
    for (; load->count < FEW && ring.taken < ring.put; ring.taken++) {
        unsigned at = ring.taken % RING;
        struct batch *batch = &load->batches[load->count];
        *batch = (struct batch){.data = load->messages[load->count++].data, .size = ring.messages[at].size,
                                .segment = ring.messages[at].width, .socket = socket,
                                .from_bytes = sizeof batch->from, .from.sin6_family = AF_INET6};
        memcpy(batch->data, ring.messages[at].data, batch->size);
    }
    bool more = ring.taken < ring.put;
    pthread_mutex_unlock(&ring.lock);
    load->now = now_ns();
    return more;
}

static void check_order(struct receiver *receiver, unsigned queue, const struct iovec *parts, int count)
{
    const uint8_t *packet = (const uint8_t *)parts[0].iov_base + VNET_BYTES;
    size_t size = 0;
    if (count == 2 && parts[0].iov_len == VNET_BYTES)
        packet = parts[1].iov_base;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    const unsigned flow = read32(packet + 16) - 0xC0000200;
    const uint32_t sequence = read32(packet + 24), payload = (uint32_t)(size - VNET_BYTES - 40);
    CHECK(flow < FLOWS && queue < MAX_WORKERS);
    CHECK((int32_t)(sequence - heard[flow]) >= 0); /* in order, and never twice */
    heard[flow] = sequence + payload;
    atomic_fetch_add(&delivered, payload / SEGMENT);
}

/* An answer takes its counter from the same key as the senders'. */
static void check_answer(struct receiver *receiver, struct tunnel *tunnel, struct path *path, const uint8_t *data,
                         size_t size)
{
    const uint32_t newest = atomic_load(&tunnel->send)->epoch;
    pthread_mutex_lock(&ring.lock);
    note_nonces(newest, data, size, (unsigned)size);
    pthread_mutex_unlock(&ring.lock);
    atomic_fetch_add(&answered, 1);
}

/* Each sender has flows of its own, as a queue of the TUN has. */
static void *send_all(void *argument)
{
    const unsigned number = (unsigned)(uintptr_t)argument;
    struct sender sender;
    uint32_t sequence[FLOWS] = {0};
    const struct vnet vnet = {NEEDS_CHECKSUM, GSO_TCP4, 40, SEGMENT, 20, 16};
    CHECK(sender_init(&sender, core, FIRST_SENDER + number, to_ring, NULL));
    sender.queue = (uint8_t)number;
    for (unsigned turn = 0; !atomic_load(&stopping); turn++) {
        atomic_fetch_add(&core->turns[FIRST_SENDER + number], 1);
        for (unsigned flow = number; flow < FLOWS; flow += SENDERS) {
            memcpy(sender.input, &vnet, VNET_BYTES);
            size_t size = packet_of(sender.input + VNET_BYTES, flow, sequence[flow]);
            sequence[flow] += SEGMENT * SEGMENTS;
            sender_take(&sender, VNET_BYTES + size, now_ns());
        }
        sender_flush(&sender, now_ns());
        atomic_fetch_add(&core->turns[FIRST_SENDER + number], 1);
        struct timespec moment = {0, 50000};
        nanosleep(&moment, NULL);
    }
    sender_clear(&sender);
    return NULL;
}

static void *receive_all(void *argument)
{
    const unsigned thread = FIRST_RECEIVER + (unsigned)(uintptr_t)argument;
    uint8_t *scratch = malloc(65536);
    while (!atomic_load(&stopping)) {
        atomic_fetch_add(&core->turns[thread], 1);
        bool more = line_take(line, fuzz_socket, thread, scratch, false);
        atomic_fetch_add(&core->turns[thread], 1);
        struct timespec moment = {0, 20000};
        if (!more)
            nanosleep(&moment, NULL);
    }
    free(scratch);
    return NULL;
}

/* What Python's thread does. */

static struct row *rows[FLOWS][WAYS];

static void link_rows(void)
{
    uint8_t packet[4096];
    for (unsigned flow = 0; flow < FLOWS; flow++)
        for (unsigned way = 0; way < WAYS; way++) {
            struct view view;
            size_t size = packet_of(packet, flow, 0);
            CHECK(look(packet, size, way == INWARD, &view));
            CHECK((rows[flow][way] = row_new(1, TUNNEL)));
            atomic_store(&rows[flow][way]->answered, true);
            CHECK(row_link(core, rows[flow][way], &view.key, true));
        }
}

static void renew_keys(struct tunnel *tunnel, uint32_t epoch)
{
    uint8_t secret[KEY_BYTES] = {(uint8_t)epoch, (uint8_t)(epoch >> 8)}, iv[IV_BYTES] = {3};
    struct receive_keys *had = atomic_load(&tunnel->receive), *next = calloc(1, sizeof *next);
    struct receive_key *key = calloc(1, sizeof *key);
    struct send_key *send = calloc(1, sizeof *send);
    receive_key_init(key, AES_256_GCM, secret, iv, epoch, -1);
    next->keys[next->count++] = key;
    for (unsigned i = 0; i < had->count && next->count < 3; i++)
        next->keys[next->count++] = had->keys[i];
    for (unsigned i = 2; i < had->count; i++)
        retire(core, had->keys[i], receive_key_free);
    atomic_store(&tunnel->receive, next);
    retire(core, had, free);
    aead_init(&send->aead, AES_256_GCM, secret, iv);
    send->epoch = epoch;
    send->first_word = (uint32_t)(SEALED | (epoch & 7)) << 24 | TUNNEL;
    retire(core, atomic_exchange(&tunnel->send, send), send_key_free);
}

static void renew_path(struct tunnel *tunnel, unsigned turn)
{
    struct path *path = calloc(1, sizeof *path);
    *path = *atomic_load(&tunnel->path);
    path->inner_mtu = turn & 1 ? MTU : MTU - 40;
    retire(core, atomic_exchange(&tunnel->path, path), free);
}

/* Say that what went up was counted, as Python does after each frame. */
static void set_books(struct tunnel *tunnel, const struct notice *last)
{
    pthread_mutex_lock(&tunnel->lock);
    tunnel->books = (struct books){true, (uint64_t)last->epoch << 32 | last->counter, 1, 1};
    pthread_mutex_unlock(&tunnel->lock);
}

static void send_probe(struct tunnel *tunnel)
{
    static const uint8_t probe[18] = {1};
    uint8_t datagram[sizeof probe + OVERHEAD_BYTES];
    struct send_key *key = atomic_load(&tunnel->send);
    uint64_t counter;
    CHECK(reserve_counters(core, tunnel, key, 1, &counter) &&
          seal_at(key, 0, datagram, key->first_word, counter, probe, sizeof probe));
    to_ring(NULL, tunnel, NULL, datagram, sizeof datagram, sizeof datagram, 1, 0);
}

static void take_all(struct tunnel *tunnel)
{
    struct birth *birth;
    for (unsigned queue = 0; queue < RINGS; queue++) {
        struct notice *notice;
        for (unsigned most = 64; most && (notice = notice_take(core, (enum ring)queue)); most--)
            if (notice->kind == OPENED)
                set_books(tunnel, notice);
    }
    notices_done(core);
    while ((birth = births_take(core))) {
        row_unlink(core, birth->row);
        retire(core, birth->row, free);
        free(birth);
        born++;
    }
    for (unsigned i = 0; i < COUNTS; i++)
        atomic_exchange(&core->counts[i], 0);
    atomic_store(&core->woken, false);
}

static void poll_tunnel(struct tunnel *tunnel)
{
    pthread_mutex_lock(&core->dirty_lock);
    free(core->dirty.at);
    core->dirty = (struct numbers){0};
    core->quiet.count = 0;
    pthread_mutex_unlock(&core->dirty_lock);
    atomic_store(&tunnel->dirty, false);
    atomic_store(&tunnel->quiet, false);
    atomic_exchange(&tunnel->packets_in, 0);
    atomic_exchange(&tunnel->last_in, 0);
    atomic_exchange(&tunnel->packets_out, 0);
}

/* A row goes and comes back, as one that had run out does; the core may have made one of its own meanwhile. */
static void relink(unsigned flow)
{
    struct row *row = rows[flow][OUTWARD], *next = row_new(1, TUNNEL);
    const struct flow_key key = row->key;
    row_unlink(core, row);
    retire(core, row, free);
    struct timespec moment = {0, 300000};
    nanosleep(&moment, NULL); /* its next packet begins it anew */
    atomic_store(&next->answered, true);
    CHECK(row_link(core, next, &key, true));
    rows[flow][OUTWARD] = next;
}

/* A request moves a row in the moment in which a packet has: what the request leaves is held against later packets. */
static void move_after_learning(struct row *row, unsigned number)
{
    const int64_t until = now_ns() + 2000000;
    atomic_store(&row->left, NO_TUNNEL);
    atomic_store(&row->tunnel, TUNNEL + 1);
    while (atomic_load(&row->tunnel) != TUNNEL)
        if (now_ns() > until)
            return;
    CHECK(row_move(row, TUNNEL + 1, number, now_ns()) == MOVED);
    struct timespec moment = {0, 100000};
    nanosleep(&moment, NULL);
    CHECK(atomic_load(&row->tunnel) == TUNNEL + 1 && atomic_load(&row->left) == TUNNEL);
    moved++;
}

static void be_python(double seconds)
{
    struct tunnel *tunnel = tunnel_find(core, TUNNEL);
    const int64_t until = now_ns() + (int64_t)(seconds * 1e9);
    uint32_t epoch = EPOCH;
    for (unsigned turn = 1; now_ns() < until; turn++) {
        row_move(rows[turn % FLOWS][OUTWARD], turn & 8 ? TUNNEL : TUNNEL + 1, turn, now_ns());
        for (unsigned flow = 0; flow < FLOWS; flow++)
            move_after_learning(rows[flow][OUTWARD], turn);
        for (unsigned flow = 0; flow < FLOWS; flow++)
            row_move(rows[flow][OUTWARD], TUNNEL, turn, now_ns());
        renew_path(tunnel, turn);
        if (turn % 16 == 0)
            renew_keys(tunnel, ++epoch);
        if (turn % 5 == 0)
            relink(turn / 5 % FLOWS);
        take_all(tunnel);
        send_probe(tunnel);
        poll_tunnel(tunnel);
        if (turn % 32 == 0)
            quiesce(core);
        reap(core);
        struct timespec moment = {0, 500000};
        nanosleep(&moment, NULL);
    }
}

int main(int count, char **words)
{
    pthread_t threads[SENDERS + RECEIVERS];
    const double seconds = count > 1 ? atof(words[1]) : 1;
    core = fuzz_core(true); /* learning, guard and births are an anchor's */
    CHECK((line = line_new(core, RECEIVERS, from_ring, check_order, NULL)));
    core->line = line;
    line->receiver.answer = check_answer;
    atomic_store(&tunnel_find(core, TUNNEL)->hold, 1000000000);
    for (unsigned i = 0; i < SENDERS; i++)
        atomic_store(&core->queues[i], 1000 + (int)i); /* nothing is ever read or written there */
    CHECK(holder_set(core, 1, (const uint8_t[4]){10, 201, 0, 2}, NULL));
    atomic_store(&core->births->guard, calloc(1, sizeof(struct guard)));
    link_rows();
    for (uintptr_t i = 0; i < SENDERS + RECEIVERS; i++)
        CHECK(!pthread_create(&threads[i], NULL, i < SENDERS ? send_all : receive_all,
                              (void *)(i < SENDERS ? i : i - SENDERS)));
    be_python(seconds);
    atomic_store(&stopping, true);
    for (unsigned i = 0; i < SENDERS + RECEIVERS; i++)
        pthread_join(threads[i], NULL);
    printf("%llu sent, %llu lost at a full ring, %llu delivered, %llu answered, %u flows begun, %u moved\n",
           (unsigned long long)atomic_load(&sent), (unsigned long long)atomic_load(&lost),
           (unsigned long long)atomic_load(&delivered), (unsigned long long)atomic_load(&answered), born, moved);
    CHECK(atomic_load(&delivered) > atomic_load(&sent) / 8 && atomic_load(&answered) && moved);
    return 0;
}
