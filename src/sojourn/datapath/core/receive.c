/* UDP -> TUN, in the order in which it came: packets of one flow that continue one another are written as one
 * super-packet, straight from where they were opened (open.c). Every header is looked at, whatever hints say, and only
 * such packets are put together as the kernel, which cuts them again, makes the very same of (packet/gso.py).
 *
 * What is not ordinary goes up opened, so that nothing is opened twice and one replay window serves both. */
#include "rules.h"

#include <string.h>

void receiver_init(struct receiver *receiver, struct core *core, write_fn *write, void *context)
{
    memset(receiver, 0, sizeof *receiver);
    receiver->core = core;
    receiver->write = write;
    receiver->context = context;
}

/* Runs. */

static void finish_header(struct run *run)
{
    uint8_t *packet = run->header + VNET_BYTES;
    const struct view *view = &run->view;
    struct vnet vnet = {NEEDS_CHECKSUM, NO_GSO, view->head, 0, view->at, (uint16_t)checksum_offset(view->protocol)};
    set_length(packet, view, run->total);
    write16(packet + view->at + vnet.checksum_offset, pseudo(packet, view, run->total));
    if (run->packets > 1) {
        vnet.gso_type = view->protocol == UDP ? GSO_UDP : view->at == 20 ? GSO_TCP4 : GSO_TCP6;
        vnet.segment_bytes = run->payload;
    }
    memcpy(run->header, &vnet, VNET_BYTES);
}

/* Write what was held for more: nothing more is there for now. */
void receiver_flush(struct receiver *receiver)
{
    struct run *run = &receiver->run;
    if (!run->row)
        return;
    finish_header(run);
    run->parts[0] = (struct iovec){run->header, VNET_BYTES + run->view.head};
    run->row = NULL;
    receiver->write(receiver, run->queue, run->parts, (int)run->packets + 1);
}

/* Write a run that began in another bank than what was taken in last: its buffers are about to be filled again. */
void receiver_keep_bank(struct receiver *receiver, unsigned bank)
{
    if (receiver->run.row && receiver->run.bank != bank)
        receiver_flush(receiver);
}

static bool same_headers(const struct run *run, const uint8_t *packet, const struct view *view)
{
    const uint8_t *mine = run->header + VNET_BYTES;
    const unsigned at = view->at;
    if (at == 20) {
        if (mine[1] != packet[1] || mine[8] != packet[8] || mine[6] != packet[6])
            return false;
        /* Under DF the identification means nothing (RFC 6864 §4.1). */
        if (!view->dont_fragment && read16(packet + 4) != (uint16_t)(run->identification + run->packets))
            return false;
    } else if (memcmp(mine, packet, 4) || mine[7] != packet[7]) {
        return false;
    }
    if (view->protocol == UDP)
        return true;
    /* All but sequence, PSH and FIN, and checksum: acknowledgement, offset, window, urgent pointer, options. */
    return read32(packet + at + 4) == run->sequence && !memcmp(mine + at + 8, packet + at + 8, 5) &&
           !((mine[at + 13] ^ packet[at + 13]) & ~(PSH | FIN)) && !memcmp(mine + at + 14, packet + at + 14, 2) &&
           !memcmp(mine + at + 18, packet + at + 18, view->head - at - 18u);
}

/* Put a packet behind those of the run, if it belongs there. */
static bool join(struct run *run, struct row *row, const uint8_t *packet, size_t size, const struct view *view)
{
    const size_t payload = size - view->head;
    if (run->row != row || memcmp(run->view.key.bytes, view->key.bytes, view->key.size) || run->closed ||
        run->view.head != view->head || !payload || payload > run->payload ||
        run->packets == (view->protocol == UDP ? MAX_SEGMENTS : RUN_MOST) || run->total + payload > MAX_PACKET ||
        view->flags & (SYN | RST | CWR) || !same_headers(run, packet, view))
        return false;
    run->parts[++run->packets] = (struct iovec){(void *)(packet + view->head), payload};
    run->total += payload;
    run->sequence += (uint32_t)payload;
    run->header[VNET_BYTES + view->at + 13] |= view->protocol == TCP ? view->flags & (PSH | FIN) : 0;
    run->closed = payload < run->payload || view->flags & (PSH | FIN);
    return true;
}

static uint8_t queue_of(const struct row *row) { return atomic_load_explicit(&row->queue, memory_order_relaxed); }

/* Begin a run, or write a packet that nothing can follow. `open`: its checksum is to be completed. */
static void begin(struct receiver *receiver, struct row *row, uint8_t *packet, size_t size, const struct view *view,
                  bool open, bool may_join, unsigned bank)
{
    struct run *run = &receiver->run;
    const size_t payload = size - view->head;
    if (may_join && payload && !(view->flags & (PSH | FIN | SYN | RST | CWR)) && view->head <= MAX_HEAD) {
        run->row = row;
        run->queue = queue_of(row);
        run->view = *view;
        run->packets = 1;
        run->total = size;
        run->payload = (uint16_t)payload;
        run->closed = false;
        run->sequence = view->protocol == TCP ? read32(packet + view->at + 4) + (uint32_t)payload : 0;
        run->identification = read16(packet + 4);
        run->bank = bank;
        memcpy(run->header + VNET_BYTES, packet, view->head);
        run->parts[1] = (struct iovec){packet + view->head, payload};
        return;
    }
    struct vnet vnet = {0};
    if (open) {
        vnet = (struct vnet){NEEDS_CHECKSUM, NO_GSO, 0, 0, view->at, (uint16_t)checksum_offset(view->protocol)};
        write16(packet + view->at + vnet.checksum_offset, pseudo(packet, view, size));
    }
    struct iovec parts[2] = {{&vnet, VNET_BYTES}, {packet, size}};
    receiver->write(receiver, queue_of(row), parts, 2);
}

/* Up to Python. */

static struct notice *note_of(struct receiver *receiver, enum notice_kind kind, const struct batch *batch,
                              const void *data, size_t size, size_t bytes, int64_t now)
{
    struct notice *notice = notice_new(receiver->core, kind, NO_TUNNEL, data, size);
    if (notice) {
        notice->at = now;
        notice->ecn = batch->ecn;
        notice->fd = atomic_load(&batch->socket->fd);
        notice->bytes = (uint32_t)bytes;
        notice->from = batch->from;
        notice->via_bytes = batch->via_bytes;
        memcpy(notice->via, batch->via, VIA_BYTES);
    }
    return notice;
}

static void up_opened(struct receiver *receiver, const struct batch *batch, struct tunnel *tunnel,
                      const struct path *path, const struct opened *opened, const uint8_t *text, size_t size,
                      int64_t now)
{
    struct notice *notice = note_of(receiver, OPENED, batch, text, size, size + OVERHEAD_BYTES, now);
    receiver_flush(receiver);
    count_in(receiver->core, C_SLOW_PACKETS, 1);
    if (receiver->row)
        sent_up(receiver->row, INWARD, now);
    tunnel->last_up = (uint64_t)opened->epoch << 32 | opened->counter;
    if (notice) {
        notice->place = receiver->place;
        notice->share = path ? (uint16_t)((uint64_t)path->association % NO_PATH_SHARE) : NO_PATH_SHARE;
        notice->tunnel = tunnel->id;
        notice->epoch = opened->epoch;
        notice->counter = opened->counter;
        notice->hint = opened->hint;
        notice->highest = opened->highest;
        notice->before = atomic_load_explicit(&tunnel->all_in, memory_order_relaxed);
    }
    notice_put(receiver->core, FROM_PEERS, notice);
}

static bool from_where_it_should(const struct path *path, const struct batch *batch)
{
    return path && path->socket == batch->socket && path->to_bytes == batch->from_bytes &&
           !memcmp(&path->to, &batch->from, path->to_bytes) && path->via_bytes == batch->via_bytes &&
           !memcmp(path->via, batch->via, path->via_bytes);
}

/* Let a row follow an authentic packet (paft.py, learn). Python hears of it. */
static void learn(struct receiver *receiver, struct row *row, struct tunnel *tunnel, int64_t now)
{
    int64_t was = atomic_load(&row->tunnel);
    if (atomic_load(&row->left) == tunnel->id &&
        now - atomic_load(&row->left_at) < atomic_load_explicit(&tunnel->hold, memory_order_relaxed))
        return;
    if (was == tunnel->id || !atomic_compare_exchange_strong(&row->tunnel, &was, tunnel->id))
        return;
    atomic_store(&row->left, was);
    atomic_store(&row->left_at, now);
    if (atomic_load(&row->tunnel) != tunnel->id) /* a request has moved it on meanwhile: what that left is held */
        atomic_store(&row->left, tunnel->id);
    notify(receiver->core, FROM_PEERS, LEARNED, tunnel->id, 0, row->key.bytes, row->key.size);
}

/* Deliver an authentic packet of the present epoch; say whether it was ordinary. */
static bool deliver(struct receiver *receiver, const struct batch *batch, struct tunnel *tunnel,
                    const struct path *path, uint8_t hint, uint8_t *text, size_t size, int64_t now)
{
    struct core *core = receiver->core;
    struct view view;
    if (!look(text, size, !core->inbound_reads, &view))
        return false;
    const uint64_t hash = hash_of(core, &view.key);
    receiver->place = (uint16_t)(hash % PLACES);
    struct row *row = receiver->row = row_at(core, &view.key, hash);
    /* ECN: ECT(1) and CE may change the inner header (RFC 6040 §4.2), the others do not. */
    if (batch->ecn & 1 || !from_where_it_should(path, batch))
        return false;
    bool refused = false;
    if (!row && !(row = born_there(core, path->association, tunnel->id, &view.key, hash, now, &refused)))
        return refused;
    receiver->row = row;
    if (!in_turn(core, row, INWARD, now) || row->association != path->association ||
        atomic_load_explicit(&row->slow, memory_order_relaxed))
        return false;
    if (view.flags & SYN && !clamp_mss(text, &view, (uint16_t)(path->inner_mtu - view.at - 20), hint & PARTIAL))
        return false;
    if (core->inbound_reads && atomic_load_explicit(&row->tunnel, memory_order_relaxed) != tunnel->id)
        learn(receiver, row, tunnel, now);
    row_in(row, now, 1, size);
    row_flags(row, view.flags, now);
    bool open = hint & PARTIAL;
    bool may_join = (open || checksum_holds(text, &view, size)) &&
                    (view.protocol == TCP || atomic_load_explicit(&core->tun_uso, memory_order_relaxed));
    struct run *run = &receiver->run;
    if (may_join && run->row && join(run, row, text, size, &view)) {
        if (run->closed)
            receiver_flush(receiver);
        return true;
    }
    receiver_flush(receiver);
    begin(receiver, row, text, size, &view, open, may_join, batch->bank);
    return true;
}

/* What did not open: Python says of what it has never heard, the rest is counted. */
static void not_opened(struct receiver *receiver, const struct batch *batch, struct tunnel *tunnel,
                       enum opening result, const uint8_t *datagram, size_t size, int64_t now)
{
    struct core *core = receiver->core;
    if (result == NOT_OF_ITS_SOCKET)
        count_in(core, C_WRONG_TUNNEL, 1);
    else if (result == NOT_SEALED || !tunnel || !atomic_load(&tunnel->receive)) /* a plain tunnel's, or nobody's */
        notice_put(core, FROM_STRANGERS, note_of(receiver, DATAGRAM, batch, datagram, size, size, now));
    else
        count_in(core, result == OPENED_REPLAY || tunnel_saw(tunnel, datagram) ? C_REPLAYED : C_FORGED, 1);
}

static void hear(struct core *core, struct tunnel *tunnel, size_t heard[2], int64_t now)
{
    if (tunnel && heard[0])
        note_in(core, tunnel, now, heard[0], heard[1]);
    heard[0] = heard[1] = 0;
}

/* Take in one datagram; `heard` counts those that ask nothing more of Python than their number. */
static void take_one(struct receiver *receiver, const struct batch *batch, const struct found *found,
                     uint8_t *datagram, size_t size, struct tunnel **last, size_t heard[2], int64_t now)
{
    struct core *core = receiver->core;
    struct opened opened;
    if (found->result == NOT_SEALED || found->result == NOT_OF_ITS_SOCKET) {
        not_opened(receiver, batch, NULL, found->result, datagram, size, now);
        return;
    }
    const uint32_t id = read32(datagram) & 0xFFFFFF;
    struct tunnel *tunnel = *last && (*last)->id == id ? *last : tunnel_find(core, id);
    if (*last != tunnel)
        hear(core, *last, heard, now);
    *last = tunnel;
    if (found->result != OPENED_NEW) {
        not_opened(receiver, batch, tunnel, found->result, datagram, size, now);
        return;
    }
    if (!tunnel || !tunnel_mark(tunnel, found, &opened)) { /* seen before, or the tunnel has gone since it was opened */
        count_in(core, C_REPLAYED, 1);
        return;
    }
    if (opened.advanced)
        notify(core, FROM_PEERS, ADVANCED, id, opened.epoch, NULL, 0);
    uint8_t *text = datagram + HEADER_BYTES;
    size_t length = size - OVERHEAD_BYTES;
    struct path *path = atomic_load_explicit(&tunnel->path, memory_order_acquire);
    const bool present = opened.epoch == atomic_load_explicit(&tunnel->current, memory_order_relaxed);
    receiver->place = NO_PLACE;
    receiver->row = NULL;
    if (present && deliver(receiver, batch, tunnel, path, opened.hint, text, length, now)) {
        heard[0]++;
        heard[1] += size;
        return;
    }
    hear(core, tunnel, heard, now); /* what came before it is counted before it: it may ask how much that was */
    if (!present || !from_where_it_should(path, batch) || !answer_probe(receiver, tunnel, path, text, length, now))
        up_opened(receiver, batch, tunnel, path, &opened, text, length, now);
}

/* Take in what one call has given and what became of each of its datagrams. What can be joined to what comes next
 * stays: receiver_flush. */
void receiver_take(struct receiver *receiver, const struct batch *batch, const struct found *found, int64_t now)
{
    struct tunnel *tunnel = NULL;
    size_t heard[2] = {0, 0};
    for (size_t at = 0; at < batch->size; at += batch->segment)
        take_one(receiver, batch, found++, batch->data + at, nth_size(batch, at), &tunnel, heard, now);
    hear(receiver->core, tunnel, heard, now);
}
