/* TUN -> UDP. datapath/engine_send.py does the same, and says why it is done so; packet/gso.py is the oracle of both. */
#include "rules.h"

#include <stdlib.h>
#include <string.h>

bool sender_init(struct sender *sender, struct core *core, unsigned thread, transmit_fn *transmit, void *context)
{
    memset(sender, 0, sizeof *sender);
    sender->core = core;
    sender->thread = thread;
    sender->transmit = transmit;
    sender->context = context;
    sender->input = malloc(INPUT_BYTES);
    sender->output = malloc(65536);
    return sender->input && sender->output;
}

void sender_clear(struct sender *sender)
{
    free(sender->input);
    free(sender->output);
}

/* Send the datagrams that are waiting for more of their kind. */
void sender_flush(struct sender *sender, int64_t now)
{
    struct tunnel *tunnel = sender->tunnel;
    if (!tunnel)
        return;
    unsigned count = sender->count, end = sender->end;
    sender->tunnel = NULL;
    sender->count = sender->end = 0;
    if (!count)
        return; /* the only one could not be sealed */
    note_out(sender->core, tunnel, now, count, end);
    sender->transmit(sender, tunnel, sender->path, sender->output, end, sender->width, count, sender->ecn);
}

/* Reserve `count` counters; false if this epoch has none left. They are the caller's alone, whatever other threads do. */
bool reserve_counters(struct core *core, struct tunnel *tunnel, struct send_key *key, unsigned count, uint64_t *first)
{
    *first = atomic_load_explicit(&key->counter, memory_order_relaxed);
    do
        if (*first + count > PACKETS_PER_EPOCH)
            return false;
    while (!atomic_compare_exchange_weak_explicit(&key->counter, first, *first + count, memory_order_relaxed,
                                                  memory_order_relaxed));
    if (*first + count > PACKETS_PER_EPOCH - STEP_MARGIN && !atomic_exchange(&tunnel->asked_step, true))
        notify(core, FROM_PEERS, STEP, tunnel->id, key->epoch, NULL, 0);
    return true;
}

/* Make room for a datagram of `width` bytes in the message that waits, or in a new one. A short one may only end
 * a message; where more of the same width follow (`exactly`), it must be a message of that width. */
static uint8_t *place(struct sender *sender, struct tunnel *tunnel, struct path *path, unsigned width, bool exactly,
                      unsigned ecn, int64_t now)
{
    if (sender->tunnel &&
        (sender->tunnel != tunnel || sender->path != path || ecn != sender->ecn ||
         (exactly ? width != sender->width : width > sender->width) || sender->count == MAX_SEGMENTS ||
         sender->end + width > MAX_MESSAGE))
        sender_flush(sender, now);
    if (!sender->tunnel) {
        sender->tunnel = tunnel;
        sender->path = path;
        sender->width = width;
        sender->ecn = ecn;
    }
    return sender->output + sender->end;
}

bool seal_at(struct send_key *key, unsigned thread, uint8_t *at, uint32_t word, uint64_t counter, const uint8_t *text,
             size_t size)
{
    write32(at, word);
    write32(at + 4, (uint32_t)counter);
    return aead_seal(&key->aead, thread, counter, at, text, size, at + HEADER_BYTES);
}

static void placed(struct sender *sender, unsigned width, int64_t now)
{
    sender->end += width;
    sender->count++;
    if (width < sender->width) /* UDP_SEGMENT: only the last datagram of a message may be shorter */
        sender_flush(sender, now);
}

static bool send_single(struct sender *sender, const struct vnet *vnet, const struct view *view, size_t size,
                        struct tunnel *tunnel, struct path *path, struct send_key *key, int64_t now)
{
    uint8_t *packet = sender->input + VNET_BYTES;
    uint32_t word = key->first_word;
    uint64_t counter;
    bool open = vnet->flags & NEEDS_CHECKSUM;
    if (open && (vnet->checksum_start != view->at || vnet->checksum_offset != checksum_offset(view->protocol)))
        return false;
    if (view->flags & SYN && !clamp_mss(packet, view, (uint16_t)(path->inner_mtu - view->at - 20), open))
        return false;
    if (size > path->inner_mtu || size + OVERHEAD_BYTES > MAX_MESSAGE || !reserve_counters(sender->core, tunnel, key, 1, &counter))
        return false;
    if (open)
        word |= PARTIAL << 24;
    unsigned width = (unsigned)size + OVERHEAD_BYTES;
    uint8_t *at = place(sender, tunnel, path, width, false, view->ecn, now);
    if (seal_at(key, sender->thread, at, word, counter, packet, size))
        placed(sender, width, now);
    else
        count_in(sender->core, C_NO_MEMORY, 1);
    return true;
}

/* Cut a super-packet where it lies: each header is written over the end of the segment before it. */
static void cut(struct sender *sender, const struct view *view, size_t payload, unsigned segment, unsigned count,
                struct tunnel *tunnel, struct path *path, struct send_key *key, uint64_t counter, int64_t now)
{
    uint8_t header[MAX_HEAD], *text = sender->input + VNET_BYTES;
    const unsigned head = view->head, tcp_at = view->protocol == TCP ? view->at : 0;
    const unsigned full = head + segment + OVERHEAD_BYTES;
    uint32_t sequence = tcp_at ? read32(text + tcp_at + 4) : 0, word = key->first_word | PARTIAL << 24;
    memcpy(header, text, head);
    const uint16_t identification = read16(header + 4);
    for (unsigned i = 0; i < count; i++, text += segment) {
        bool last = i + 1 == count;
        size_t size = head + (last ? payload - (size_t)i * segment : segment);
        if (!view->dont_fragment) /* else it means nothing, and stays (RFC 6864 §4.1) */
            write16(header + 4, identification + i);
        if (!i || last || !view->dont_fragment)
            set_length(header, view, size);
        if (tcp_at) {
            header[tcp_at + 13] = (uint8_t)(last ? view->flags : view->flags & ~(PSH | FIN));
            write32(header + tcp_at + 4, sequence);
            sequence += segment;
        }
        memcpy(text, header, head);
        uint8_t *at = place(sender, tunnel, path, full, true, view->ecn, now);
        if (!seal_at(key, sender->thread, at, word, counter++, text, size)) {
            count_in(sender->core, C_NO_MEMORY, 1);
            return;
        }
        word |= CONTINUES << 24;
        placed(sender, (unsigned)size + OVERHEAD_BYTES, now);
    }
}

static bool send_super(struct sender *sender, const struct vnet *vnet, const struct view *view, size_t size,
                       struct tunnel *tunnel, struct path *path, struct send_key *key, struct row *row, int64_t now)
{
    const unsigned segment = vnet->segment_bytes, wanted =
        view->protocol == UDP ? GSO_UDP : view->at == 20 ? GSO_TCP4 : GSO_TCP6;
    const size_t payload = size - view->head;
    uint64_t counter;
    if (vnet->gso_type != wanted || !(vnet->flags & NEEDS_CHECKSUM) || vnet->checksum_start != view->at || !segment ||
        !payload || view->flags & (SYN | RST | CWR) || view->head + segment > path->inner_mtu ||
        view->head > MAX_HEAD)
        return false;
    const size_t count = (payload + segment - 1) / segment;
    if (count > MAX_CUT || view->head + segment + OVERHEAD_BYTES > MAX_MESSAGE ||
        !reserve_counters(sender->core, tunnel, key, (unsigned)count, &counter))
        return false;
    cut(sender, view, payload, segment, (unsigned)count, tunnel, path, key, counter, now);
    row_out(row, now, count, payload + count * view->head);
    return true;
}

/* Send what was read if it is ordinary; say whether it was. */
static bool send_fast(struct sender *sender, size_t size, int64_t now)
{
    struct core *core = sender->core;
    struct vnet vnet;
    struct view view;
    if (size < VNET_BYTES)
        return false;
    memcpy(&vnet, sender->input, VNET_BYTES);
    size -= VNET_BYTES;
    if (!look(sender->input + VNET_BYTES, size, core->inbound_reads, &view))
        return false;
    const uint64_t hash = hash_of(core, &view.key);
    sender->place = (uint16_t)(hash % PLACES);
    struct row *row = row_at(core, &view.key, hash);
    bool refused = false;
    if (!row)
        row = born_here(core, &view.key, hash, now, &refused);
    if (refused)
        return true;
    sender->row = row;
    if (row && atomic_load_explicit(&row->queue, memory_order_relaxed) != sender->queue)
        atomic_store_explicit(&row->queue, sender->queue, memory_order_relaxed);
    if (!row || !in_turn(core, row, OUTWARD, now) || atomic_load_explicit(&row->slow, memory_order_relaxed) ||
        !(core->inbound_reads || atomic_load_explicit(&row->answered, memory_order_relaxed)))
        return false;
    int64_t on = atomic_load_explicit(&row->tunnel, memory_order_relaxed);
    struct tunnel *tunnel = on >= 0 ? tunnel_find(core, (uint32_t)on) : NULL;
    struct path *path = tunnel ? atomic_load_explicit(&tunnel->path, memory_order_acquire) : NULL;
    struct send_key *key = path ? atomic_load_explicit(&tunnel->send, memory_order_acquire) : NULL;
    if (!key || !path->may_send || path->association != row->association)
        return false;
    if (vnet.gso_type) {
        if (!send_super(sender, &vnet, &view, size, tunnel, path, key, row, now))
            return false;
    } else {
        if (!send_single(sender, &vnet, &view, size, tunnel, path, key, now))
            return false;
        row_out(row, now, 1, size);
    }
    row_flags(row, view.flags, now);
    return true;
}

/* Send what a read of `size` bytes has put into `input`; some of it may leave with the next flush. */
void sender_take(struct sender *sender, size_t size, int64_t now)
{
    sender->place = NO_PLACE;
    sender->row = NULL;
    if (send_fast(sender, size, now))
        return;
    sender_flush(sender, now);
    count_in(sender->core, C_SLOW_READS, 1);
    if (sender->row)
        sent_up(sender->row, OUTWARD, now);
    if (sender->place != NO_PLACE)
        atomic_store_explicit(&sender->core->read_on[sender->place], sender->queue + 1, memory_order_relaxed);
    struct notice *notice = notice_new(sender->core, READ, NO_TUNNEL, sender->input, size);
    if (notice) {
        notice->at = now;
        notice->place = sender->place;
    }
    notice_put(sender->core, FROM_TUN, notice);
}
