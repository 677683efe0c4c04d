/* What the fuzzers share: memory that ends where the input ends, and a core with one tunnel and a few flows. */
#ifndef SOJOURN_FUZZ_H
#define SOJOURN_FUZZ_H

#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);                                         \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { TUNNEL = 0x10, MTU = 1420, EPOCH = 5 };

static struct udp_socket *fuzz_socket;

/* A host's core; rows are made of the flows that the seeds have, and of whatever `know` is given. */
static inline struct core *fuzz_core(bool anchor)
{
    static const uint8_t key[KEY_BYTES] = {1}, iv[IV_BYTES] = {2};
    struct core *core = core_new();
    CHECK(core);
    core->inbound_reads = anchor;
    atomic_store(&core->tun_uso, true);
    fuzz_socket = &core->sockets[0];
    fuzz_socket->tunnel = NO_TUNNEL;
    struct tunnel *tunnel = tunnel_make(core, TUNNEL);
    struct path *path = calloc(1, sizeof *path);
    struct send_key *send = calloc(1, sizeof *send);
    struct receive_keys *keys = calloc(1, sizeof *keys);
    struct receive_key *receive = calloc(1, sizeof *receive);
    path->association = 1;
    path->socket = fuzz_socket;
    path->to.sin6_family = AF_INET6;
    path->to_bytes = sizeof path->to;
    path->inner_mtu = MTU;
    path->may_send = true;
    atomic_store(&tunnel->path, path);
    aead_init(&send->aead, AES_256_GCM, key, iv);
    send->first_word = (uint32_t)(SEALED | (EPOCH & 7)) << 24 | TUNNEL;
    send->epoch = EPOCH;
    atomic_store(&tunnel->send, send);
    receive_key_init(receive, AES_256_GCM, key, iv, EPOCH, -1);
    keys->keys[keys->count++] = receive;
    atomic_store(&tunnel->receive, keys);
    atomic_store(&tunnel->current, EPOCH);
    return core;
}

static inline struct row *row_find(struct core *core, const struct flow_key *key)
{
    return row_at(core, key, hash_of(core, key));
}

/* Let a packet's flow have a row, so that it goes the fast way. */
static inline void know(struct core *core, const uint8_t *packet, size_t size, bool inbound)
{
    struct view view;
    struct row *row;
    if (!look(packet, size, inbound, &view) || row_find(core, &view.key) || !(row = row_new(1, TUNNEL)))
        return;
    atomic_store(&row->answered, true);
    CHECK(row_link(core, row, &view.key, true));
}

/* Open a batch and deliver it, as one thread alone does. */
static inline void take_in(struct receiver *receiver, const struct batch *batch, int64_t now)
{
    static struct finds finds;
    static uint8_t scratch[65536];
    finds.count = 0;
    if (batch->size && open_batch(receiver->core, batch, 0, scratch, &finds))
        receiver_take(receiver, batch, finds.at, now);
}

/* Forget what went up, and rows when there are many. */
static inline void fuzz_clean(struct core *core)
{
    for (unsigned ring = 0; ring < RINGS; ring++)
        while (notice_take(core, (enum ring)ring))
            ;
    notices_done(core);
    static unsigned times;
    for (unsigned i = 0; ++times % 256 == 0 && i < ROW_BUCKETS; i++)
        for (struct row *row; (row = atomic_load(&core->rows[i]));) {
            row_unlink(core, row);
            free(row);
        }
}

#endif
