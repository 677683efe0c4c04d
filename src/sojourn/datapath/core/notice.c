/* What goes up to Python: three queues, each bounded, so that strangers cannot crowd out what is authentic. */
#include "core.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Let Python look, once, however often this is called before it does. */
void wake(struct core *core)
{
    uint64_t one = 1;
    if (!atomic_exchange(&core->woken, true) && write(core->wake_fd, &one, sizeof one) < 0)
        atomic_store(&core->woken, false);
}

struct notice *notice_new(struct core *core, enum notice_kind kind, int64_t tunnel, const void *data, size_t size)
{
    struct notice *notice = malloc(sizeof *notice + size);
    if (!notice) {
        count_in(core, C_NO_MEMORY, 1);
        return NULL;
    }
    memset(notice, 0, sizeof *notice);
    notice->kind = kind;
    notice->tunnel = tunnel;
    notice->fd = -1;
    notice->place = NO_PLACE;
    notice->share = NO_SHARE;
    notice->size = (uint32_t)size;
    if (size)
        memcpy(notice->data, data, size);
    return notice;
}

static _Atomic uint32_t *pending_of(struct core *core, const struct notice *notice)
{
    return notice->place == NO_PLACE ? NULL : &core->pending[notice->kind == READ ? OUTWARD : INWARD][notice->place];
}

/* Say whether there is room for a notice of `size` bytes. The caller has the lock. */
static bool has_room(const struct core *core, const struct queue *queue, uint16_t share, size_t size)
{
    const unsigned part = core->inbound_reads && share != NO_SHARE ? PART_OF_ONE : 1;
    return queue->count < queue->most && queue->bytes + size <= queue->most_bytes &&
           queue->shares[share].count < queue->most / part &&
           queue->shares[share].bytes + size <= queue->most_bytes / part;
}

/* Hand a notice over; what there is no room for is dropped and counted, as by a router. */
void notice_put(struct core *core, enum ring ring, struct notice *notice)
{
    struct queue *queue = &core->rings[ring];
    if (!notice)
        return;
    size_t size = sizeof *notice + notice->size;
    _Atomic uint32_t *pending = pending_of(core, notice);
    if (pending)
        atomic_fetch_add(pending, 1);
    pthread_mutex_lock(&queue->lock);
    bool room = has_room(core, queue, notice->share, size);
    if (room) {
        *queue->last = notice;
        queue->last = &notice->next;
        queue->count++, queue->shares[notice->share].count++;
        queue->bytes += size, queue->shares[notice->share].bytes += size;
    }
    pthread_mutex_unlock(&queue->lock);
    if (room) {
        wake(core);
    } else {
        if (pending)
            atomic_fetch_sub(pending, 1);
        count_in(core, C_SLOW_FULL, 1);
        free(notice);
    }
}

/* Tell something that is small; `value` goes where an epoch would be. */
void notify(struct core *core, enum ring ring, enum notice_kind kind, int64_t tunnel, uint32_t value,
            const void *data, size_t size)
{
    struct notice *notice = notice_new(core, kind, tunnel, data, size);
    if (notice) {
        notice->epoch = value;
        notice->at = now_ns();
        notice_put(core, ring, notice);
    }
}

/* Return the oldest notice, or NULL. It is valid until `notices_done`: then Python has done what there is to do. */
struct notice *notice_take(struct core *core, enum ring ring)
{
    struct queue *queue = &core->rings[ring];
    pthread_mutex_lock(&queue->lock);
    struct notice *notice = queue->first;
    if (notice) {
        queue->first = notice->next;
        if (!queue->first)
            queue->last = &queue->first;
        const size_t size = sizeof *notice + notice->size;
        queue->count--, queue->shares[notice->share].count--;
        queue->bytes -= size, queue->shares[notice->share].bytes -= size;
    }
    pthread_mutex_unlock(&queue->lock);
    if (notice) {
        notice->next = core->taken;
        core->taken = notice;
    }
    return notice;
}

/* What was taken is done with: packets that come from here on are behind it. */
void notices_done(struct core *core)
{
    for (struct notice *notice; (notice = core->taken);) {
        _Atomic uint32_t *pending = pending_of(core, notice);
        core->taken = notice->next;
        if (pending)
            atomic_fetch_sub_explicit(pending, 1, memory_order_release);
        free(notice);
    }
}
