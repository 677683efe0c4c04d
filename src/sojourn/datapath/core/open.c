/* UDP -> TUN, the half that costs most and knows no order: datagrams are opened where they lie, by several threads at a
 * time. What was opened is looked at by receive.c, in the order in which it came.
 *
 * No lock is taken here: a window is asked only to spare the work on what is known to be old (seal.c), and says again,
 * under its lock, whether an authentic packet is new (`tunnel_mark`). */
#include "core.h"

#include <stdlib.h>
#include <string.h>

/* Open a datagram of a tunnel: where it lies if one key may fit, else out of `scratch`. */
enum opening tunnel_open(struct tunnel *tunnel, unsigned thread, uint8_t *datagram, size_t size, uint8_t *scratch,
                         struct found *found)
{
    struct receive_keys *keys = atomic_load_explicit(&tunnel->receive, memory_order_acquire);
    struct receive_key *fit[RECEIVE_KEYS];
    const uint32_t counter = read32(datagram + 4);
    const size_t text = size - OVERHEAD_BYTES;
    uint8_t *body = datagram + HEADER_BYTES;
    unsigned fits = 0;
    bool replayed = false;
    if (!keys)
        return OPENED_NO_KEY;
    for (unsigned i = 0; i < keys->count; i++)
        if ((keys->keys[i]->epoch & 7) == (datagram[0] & 7)) {
            if (window_fresh(&keys->keys[i]->window, counter))
                fit[fits++] = keys->keys[i];
            else
                replayed = true;
        }
    if (!fits)
        return replayed ? OPENED_REPLAY : OPENED_NO_KEY;
    uint8_t *sealed = body;
    if (fits > 1)
        memcpy(sealed = scratch, body, size - HEADER_BYTES);
    struct receive_key *key = NULL;
    for (unsigned i = 0; i < fits && !key; i++)
        if (aead_open(&fit[i]->aead, thread, counter, datagram, sealed, text, body))
            key = fit[i];
    if (!key)
        return replayed ? OPENED_REPLAY : OPENED_NOT;
    found->epoch = key->epoch;
    found->counter = counter;
    found->hint = datagram[0] & (CONTINUES | PARTIAL);
    found->key = key->serial;
    return OPENED_NEW;
}

/* Say whether the counter of a datagram that did not open was seen before: then it is a replay, forged or not. Those that
 * came before it in its batch were not marked yet when it was tried. */
bool tunnel_saw(struct tunnel *tunnel, const uint8_t *datagram)
{
    struct receive_keys *keys = atomic_load_explicit(&tunnel->receive, memory_order_acquire);
    for (unsigned i = 0; keys && i < keys->count; i++)
        if ((keys->keys[i]->epoch & 7) == (datagram[0] & 7) &&
            !window_fresh(&keys->keys[i]->window, read32(datagram + 4)))
            return true;
    return false;
}

/* Note that an authentic datagram has come; false if it had come before, or its key has gone meanwhile. */
bool tunnel_mark(struct tunnel *tunnel, const struct found *found, struct opened *opened)
{
    struct receive_keys *keys = atomic_load_explicit(&tunnel->receive, memory_order_acquire);
    struct receive_key *key = NULL;
    for (unsigned i = 0; keys && i < keys->count && !key; i++)
        if (keys->keys[i]->serial == found->key)
            key = keys->keys[i];
    if (!key)
        return false;
    pthread_mutex_lock(&tunnel->lock);
    bool fresh = window_mark(&key->window, found->counter, &opened->highest);
    pthread_mutex_unlock(&tunnel->lock);
    if (!fresh)
        return false;
    uint32_t current = atomic_load_explicit(&tunnel->current, memory_order_relaxed);
    opened->advanced = false;
    while (found->epoch > current && !opened->advanced)
        opened->advanced = atomic_compare_exchange_weak(&tunnel->current, &current, found->epoch);
    opened->highest = opened->highest && found->epoch >= current;
    opened->epoch = found->epoch;
    opened->counter = found->counter;
    opened->hint = found->hint;
    return true;
}

static enum opening open_one(struct core *core, const struct batch *batch, unsigned thread, uint8_t *datagram,
                             size_t size, uint8_t *scratch, struct found *found)
{
    if (size < OVERHEAD_BYTES + 1 || (datagram[0] & KIND_MASK) != SEALED)
        return NOT_SEALED;
    const uint32_t id = read32(datagram) & 0xFFFFFF;
    if (batch->socket->tunnel != NO_TUNNEL && batch->socket->tunnel != id)
        return NOT_OF_ITS_SOCKET;
    struct tunnel *tunnel = tunnel_find(core, id);
    return tunnel ? tunnel_open(tunnel, thread, datagram, size, scratch, found) : OPENED_NO_KEY;
}

/* Open all datagrams of a batch, and put down behind the others what became of each; false if there is no memory. */
bool open_batch(struct core *core, const struct batch *batch, unsigned thread, uint8_t *scratch, struct finds *finds)
{
    const size_t wanted = finds->count + datagrams_of(batch);
    if (wanted > finds->room) {
        struct found *larger = realloc(finds->at, 2 * wanted * sizeof *larger);
        if (!larger) {
            count_in(core, C_NO_MEMORY, 1);
            return false;
        }
        finds->at = larger;
        finds->room = 2 * wanted;
    }
    for (size_t at = 0; at < batch->size; at += batch->segment) {
        struct found *found = &finds->at[finds->count++];
        found->result = open_one(core, batch, thread, batch->data + at, nth_size(batch, at), scratch, found);
    }
    return true;
}
