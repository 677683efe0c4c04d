/* Probes that ask nothing of Python, answered where they were opened. The keep-alives of ten thousand idle hosts are
 * some hundred of them a second, and would keep Python from what only it can do.
 *
 * upmt/tunnel.py (`on_frame`, `_answer`) is the oracle: what goes out is what it would send, byte for byte, and it hears
 * of it later (table.c, `note_frame`). A probe goes up wherever Python would do more than answer and count: on a path that
 * is not proved or not the tunnel's present one, in an epoch that is not the newest, and if Python has yet to count something of
 * this tunnel, for which it has to be asked first. */
#include "core.h"

#include <string.h>

/* packet/frame.py */
enum { PROBE = 1, ANSWER = 2, FRAME_HEAD = 6, PROBE_BYTES = FRAME_HEAD + 12, ANSWER_BYTES = FRAME_HEAD + 63 };

static bool all_zero(const uint8_t *at, size_t size)
{
    return !size || (!at[0] && !memcmp(at, at + 1, size - 1));
}

static void write64(uint8_t *at, uint64_t value)
{
    write32(at, (uint32_t)(value >> 32));
    write32(at + 4, (uint32_t)value);
}

/* Where a probe came from: family, 16 bytes, port. */
static void write_seen(uint8_t *at, const struct path *path)
{
    const struct sockaddr_in *four = (const struct sockaddr_in *)&path->to;
    const bool is_four = path->to.sin6_family == AF_INET;
    at[0] = is_four ? 4 : 6;
    memset(at + 1, 0, 16);
    memcpy(at + 1, is_four ? (const void *)&four->sin_addr : (const void *)&path->to.sin6_addr, is_four ? 4 : 16);
    memcpy(at + 17, is_four ? &four->sin_port : &path->to.sin6_port, 2); /* both in the network's order */
}

/* Say how many packets the tunnel has had, if that is known here. */
static bool counted(struct tunnel *tunnel, uint64_t *in, uint64_t *out)
{
    struct books *books = &tunnel->books;
    pthread_mutex_lock(&tunnel->lock);
    const bool good = books->good && books->up_to == tunnel->last_up;
    *in = books->in + atomic_load_explicit(&tunnel->all_in, memory_order_relaxed) + 1;
    *out = books->out + atomic_load_explicit(&tunnel->all_out, memory_order_relaxed) + 1;
    pthread_mutex_unlock(&tunnel->lock);
    return good;
}

/* Answer an authentic plaintext of the newest epoch, from the tunnel's own path, if it is a probe that needs no more than that;
 * say whether it was. `size`: the plaintext's. */
bool answer_probe(struct receiver *receiver, struct tunnel *tunnel, struct path *path, const uint8_t *text, size_t size,
                  int64_t now)
{
    struct core *core = receiver->core;
    uint8_t frame[ANSWER_BYTES] = {ANSWER}, datagram[ANSWER_BYTES + OVERHEAD_BYTES];
    uint64_t in, out, counter;
    if (!receiver->answer || size < PROBE_BYTES || text[0] != PROBE || !all_zero(text + PROBE_BYTES, size - PROBE_BYTES) ||
        !counted(tunnel, &in, &out))
        return false;
    struct send_key *key = atomic_load_explicit(&tunnel->send, memory_order_acquire);
    if (!key || !reserve_counters(core, tunnel, key, 1, &counter))
        return false;
    const uint64_t now_us = (uint64_t)now / 1000;
    const uint32_t reported = read32(text + 2);
    write32(frame + 2, atomic_load_explicit(&tunnel->current, memory_order_relaxed));
    memcpy(frame + 6, text + 6, 12); /* sequence and time, as they came */
    write64(frame + 18, now_us);
    write64(frame + 26, now_us);
    write64(frame + 34, in);
    write64(frame + 42, out);
    write_seen(frame + 50, path);
    if (seal_at(key, ANSWERING, datagram, key->first_word, counter, frame, ANSWER_BYTES)) {
        note_frame(core, tunnel, now, reported <= key->epoch ? reported : 0 /* it lies */, size + OVERHEAD_BYTES, sizeof datagram);
        count_in(core, C_ANSWERED, 1);
        receiver->answer(receiver, tunnel, path, datagram, sizeof datagram);
    } else {
        count_in(core, C_NO_MEMORY, 1);
    }
    return true;
}
