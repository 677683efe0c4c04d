/* Rows by flow key, tunnels by index.
 *
 * Chains in buckets that never move. Readers take no lock: a new entry is put at the head of its chain when it is
 * complete; one that is taken out still leads on to the rest. Memory is given back when every worker has come to
 * the end of the turn in which it may have seen it (`turns` is odd during one). */
#include "rules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { BEHIND = 5000000, BEHIND_AT_FIRST = 50000000, BEHIND_PAUSE = 50000000 };

int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

struct core *core_new(void)
{
    struct core *core = calloc(1, sizeof *core);
    if (!core)
        return NULL;
    for (unsigned i = 0; i < MAX_WORKERS; i++)
        atomic_store(&core->queues[i], -1);
    pthread_mutex_init(&core->writing, NULL);
    pthread_mutex_init(&core->retiring, NULL);
    pthread_mutex_init(&core->dirty_lock, NULL);
    for (unsigned i = 0; i < RINGS; i++) {
        pthread_mutex_init(&core->rings[i].lock, NULL);
        core->rings[i].last = &core->rings[i].first;
        core->rings[i].most = 8192; /* of strangers, too: plain tunnels' packets are among them */
        core->rings[i].most_bytes = 8 << 20;
    }
    for (unsigned i = 0; i < MAX_SOCKETS; i++)
        atomic_store(&core->sockets[i].fd, -1);
    core->rows = calloc(ROW_BUCKETS, sizeof *core->rows);
    core->tunnels = calloc(TUNNEL_BUCKETS, sizeof *core->tunnels);
    core->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (!core->rows || !core->tunnels || core->wake_fd < 0 ||
        getrandom(core->seed, sizeof core->seed, 0) != sizeof core->seed || !births_make(core)) {
        core_free(core);
        return NULL;
    }
    return core;
}

static void tunnel_free(void *what)
{
    struct tunnel *tunnel = what;
    struct send_key *send = atomic_load(&tunnel->send);
    struct receive_keys *receive = atomic_load(&tunnel->receive);
    free(atomic_load(&tunnel->path));
    if (send)
        send_key_free(send);
    for (unsigned i = 0; receive && i < receive->count; i++)
        receive_key_free(receive->keys[i]);
    free(receive);
    pthread_mutex_destroy(&tunnel->lock);
    free(tunnel);
}

/* All workers have ended. Rows belong to Python's objects, which are gone too: each holds the core; or to births. */
void core_free(struct core *core)
{
    births_free(core);
    for (unsigned i = 0; core->tunnels && i < TUNNEL_BUCKETS; i++)
        for (struct tunnel *at = atomic_load(&core->tunnels[i]), *next; at; at = next) {
            next = atomic_load(&at->next);
            tunnel_free(at);
        }
    for (struct retired *at = core->retired, *next; at; at = next) {
        next = at->next;
        at->free(at->what);
        free(at);
    }
    notices_done(core);
    for (unsigned i = 0; i < RINGS; i++)
        for (struct notice *at = core->rings[i].first, *next; at; at = next) {
            next = at->next;
            free(at);
        }
    if (core->wake_fd >= 0)
        close(core->wake_fd);
    free(core->dirty.at);
    free(core->quiet.at);
    free((void *)core->rows);
    free((void *)core->tunnels);
    free(core);
}

/* Rows. */

uint64_t hash_of(const struct core *core, const struct flow_key *key)
{
    return siphash(core->seed, key->bytes, key->size);
}

struct row *row_at(struct core *core, const struct flow_key *key, uint64_t hash)
{
    struct row *row = atomic_load_explicit(&core->rows[hash % ROW_BUCKETS], memory_order_acquire);
    for (; row; row = atomic_load_explicit(&row->next, memory_order_acquire))
        if (row->hash == hash && row->key.size == key->size && !memcmp(row->key.bytes, key->bytes, key->size))
            return row;
    return NULL;
}

/* Say whether the core may forward the next packet of a row: not while Python has packets of the flow that came before
 * it. That is bounded in time, or a flow that is faster than Python would stay with it for ever. */
bool in_turn(struct core *core, struct row *row, unsigned way, int64_t now)
{
    return now >= atomic_load_explicit(&row->behind_until[way], memory_order_relaxed) ||
           !atomic_load_explicit(&core->pending[way][row->hash % PLACES], memory_order_acquire);
}

/* Note that a packet of a known row goes up: those that follow shall not overtake it. */
void sent_up(struct row *row, unsigned way, int64_t now)
{
    int64_t until = atomic_load_explicit(&row->behind_until[way], memory_order_relaxed);
    if (now > until + BEHIND_PAUSE)
        atomic_store_explicit(&row->behind_until[way], now + BEHIND, memory_order_relaxed);
}

struct row *row_new(int64_t association, int64_t tunnel)
{
    struct row *row = calloc(1, sizeof *row);
    if (row) {
        row->association = association;
        atomic_store(&row->tunnel, tunnel);
        atomic_store(&row->left, NO_TUNNEL);
    }
    return row;
}

/* The caller has the lock. */
static void unlink_locked(struct core *core, struct row *row)
{
    if (atomic_exchange(&row->linked, false)) {
        _Atomic(struct row *) *at = &core->rows[row->hash % ROW_BUCKETS];
        while (atomic_load(at) != row)
            at = &atomic_load(at)->next;
        atomic_store_explicit(at, atomic_load(&row->next), memory_order_release);
    }
}

static void take_counts(struct row *row, struct row *from)
{
    atomic_fetch_add(&row->packets_in, atomic_load(&from->packets_in));
    atomic_fetch_add(&row->bytes_in, atomic_load(&from->bytes_in));
    atomic_fetch_add(&row->packets_out, atomic_load(&from->packets_out));
    atomic_fetch_add(&row->bytes_out, atomic_load(&from->bytes_out));
}

/* Return the queue of the TUN that a new flow is written on: where its packets have come from, or else any, since the
 * kernel then has what it sends come from there. */
static uint8_t first_queue(struct core *core, uint64_t hash)
{
    const unsigned read_on = atomic_load_explicit(&core->read_on[hash % PLACES], memory_order_relaxed);
    unsigned queues = 0;
    while (queues < MAX_WORKERS && atomic_load_explicit(&core->queues[queues], memory_order_relaxed) >= 0)
        queues++;
    return (uint8_t)(read_on ? read_on - 1 : queues ? hash / PLACES % queues : 0);
}

/* Put a row under its key: false if the key has one. `adopted`: it is Python's; one that the core has made and that
 * Python has not heard of gives way to it, and is given back with its birth. */
bool row_link(struct core *core, struct row *row, const struct flow_key *key, bool adopted)
{
    const uint64_t hash = hash_of(core, key);
    pthread_mutex_lock(&core->writing);
    struct row *there = row_at(core, key, hash);
    bool may = !atomic_load(&row->linked) && (!there || (adopted && !there->adopted));
    if (may) {
        row->key = *key;
        row->hash = hash;
        atomic_store(&row->queue, first_queue(core, hash));
        row->adopted = adopted;
        for (unsigned way = 0; way < WAYS; way++)
            atomic_store(&row->behind_until[way], now_ns() + BEHIND_AT_FIRST);
        if (there) {
            unlink_locked(core, there);
            take_counts(row, there);
        }
        _Atomic(struct row *) *head = &core->rows[hash % ROW_BUCKETS];
        atomic_store(&row->next, atomic_load(head));
        atomic_store(&row->linked, true);
        atomic_store_explicit(head, row, memory_order_release);
    }
    pthread_mutex_unlock(&core->writing);
    return may;
}

/* Make a row that the core has made Python's; false if it is not in the table any more. */
bool row_adopt(struct core *core, struct row *row)
{
    pthread_mutex_lock(&core->writing);
    bool there = row->adopted = atomic_load(&row->linked);
    pthread_mutex_unlock(&core->writing);
    return there;
}

void row_unlink(struct core *core, struct row *row)
{
    pthread_mutex_lock(&core->writing);
    unlink_locked(core, row);
    pthread_mutex_unlock(&core->writing);
}

/* Put a row on a tunnel because a request says so (paft.py, move_row). Learning may change it at the same time: where
 * it was is written first, so that what the request leaves is held against late packets from the first moment. */
enum move_result row_move(struct row *row, int64_t tunnel, int64_t number, int64_t now)
{
    if (atomic_load_explicit(&row->slow, memory_order_relaxed))
        return NOT_OURS;
    if (number < row->move)
        return STALE;
    row->move = number;
    int64_t was = atomic_load(&row->tunnel);
    do {
        if (was == tunnel)
            return UNCHANGED;
        atomic_store(&row->left, was);
        atomic_store(&row->left_at, now);
    } while (!atomic_compare_exchange_strong(&row->tunnel, &was, tunnel));
    atomic_store(&row->left, was); /* once more: `learn` may have written what it left, between the two */
    return MOVED;
}

/* Tunnels. */

static _Atomic(struct tunnel *) *bucket(struct core *core, uint32_t id)
{
    return &core->tunnels[(id * 0x9E3779B1u) >> 18]; /* TUNNEL_BUCKETS of them */
}

struct tunnel *tunnel_find(struct core *core, uint32_t id)
{
    struct tunnel *tunnel = atomic_load_explicit(bucket(core, id), memory_order_acquire);
    while (tunnel && tunnel->id != id)
        tunnel = atomic_load_explicit(&tunnel->next, memory_order_acquire);
    return tunnel;
}

struct tunnel *tunnel_make(struct core *core, uint32_t id)
{
    struct tunnel *tunnel = tunnel_find(core, id);
    if (tunnel || !(tunnel = calloc(1, sizeof *tunnel)))
        return tunnel;
    tunnel->id = id;
    pthread_mutex_init(&tunnel->lock, NULL);
    pthread_mutex_lock(&core->writing);
    atomic_store(&tunnel->next, atomic_load(bucket(core, id)));
    atomic_store_explicit(bucket(core, id), tunnel, memory_order_release);
    pthread_mutex_unlock(&core->writing);
    return tunnel;
}

void tunnel_forget(struct core *core, uint32_t id)
{
    pthread_mutex_lock(&core->writing);
    _Atomic(struct tunnel *) *at = bucket(core, id);
    struct tunnel *tunnel;
    while ((tunnel = atomic_load(at)) && tunnel->id != id)
        at = &tunnel->next;
    if (tunnel)
        atomic_store_explicit(at, atomic_load(&tunnel->next), memory_order_release);
    pthread_mutex_unlock(&core->writing);
    if (tunnel)
        retire(core, tunnel, tunnel_free);
}

/* Memory that a worker may still be looking at. */

void retire(struct core *core, void *what, void (*free_it)(void *))
{
    struct retired *item = what ? malloc(sizeof *item) : NULL;
    if (!item)
        return; /* nothing, or better lost than used after it was freed */
    item->what = what;
    item->free = free_it;
    pthread_mutex_lock(&core->retiring);
    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned i = 0; i < MAX_THREADS; i++)
        item->turns[i] = atomic_load(&core->turns[i]);
    item->next = core->retired;
    core->retired = item;
    pthread_mutex_unlock(&core->retiring);
}

static bool seen_by_none(struct core *core, const struct retired *item)
{
    for (unsigned i = 0; i < MAX_THREADS; i++)
        if (item->turns[i] & 1 && atomic_load(&core->turns[i]) == item->turns[i])
            return false;
    return true;
}

/* Give back what no worker can be looking at any more. Python's thread only. */
void reap(struct core *core)
{
    pthread_mutex_lock(&core->retiring);
    struct retired **at = &core->retired, *free_now = NULL, *item;
    while ((item = *at)) {
        if (seen_by_none(core, item)) {
            *at = item->next;
            item->next = free_now;
            free_now = item;
        } else {
            at = &item->next;
        }
    }
    pthread_mutex_unlock(&core->retiring);
    while ((item = free_now)) {
        free_now = item->next;
        item->free(item->what);
        free(item);
    }
}

/* Wait until every worker has ended the turn that it is in, and what they have read was delivered. A turn takes two
 * milliseconds at most. */
void quiesce(struct core *core)
{
    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned i = 1; i < MAX_THREADS; i++) {
        uint64_t turn = atomic_load(&core->turns[i]);
        struct timespec shortly = {0, 50000};
        while (turn & 1 && atomic_load(&core->turns[i]) == turn)
            nanosleep(&shortly, NULL);
    }
    if (core->line)
        line_drain(core->line);
}

/* What Python's machines must know of the packets that it did not see. */

/* Put a tunnel's number on a list, where `is_there` says that it is not; return how many are there then, 0 if it was. */
static unsigned list_number(struct core *core, struct numbers *list, const struct tunnel *tunnel, _Atomic bool *is_there)
{
    if (atomic_load_explicit(is_there, memory_order_relaxed) || atomic_exchange(is_there, true))
        return 0;
    pthread_mutex_lock(&core->dirty_lock);
    if (list->count == list->room) {
        unsigned room = list->room ? 2 * list->room : 64;
        uint32_t *larger = realloc(list->at, room * sizeof *larger);
        if (larger)
            list->at = larger, list->room = room;
    }
    if (list->count < list->room)
        list->at[list->count++] = tunnel->id;
    else
        atomic_store(is_there, false);
    const unsigned count = list->count;
    pthread_mutex_unlock(&core->dirty_lock);
    return count;
}

static void note_dirty(struct core *core, struct tunnel *tunnel)
{
    if (list_number(core, &core->dirty, tunnel, &tunnel->dirty) && !atomic_load(&core->polling))
        wake(core);
}

static void set_first(_Atomic int64_t *first, int64_t now)
{
    if (!atomic_load_explicit(first, memory_order_relaxed))
        atomic_store_explicit(first, now, memory_order_relaxed);
}

void note_in(struct core *core, struct tunnel *tunnel, int64_t now, uint64_t packets, uint64_t bytes)
{
    set_first(&tunnel->first_in, now);
    atomic_store_explicit(&tunnel->last_in, now, memory_order_relaxed);
    atomic_store_explicit(&tunnel->out_after_in, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&tunnel->packets_in, packets, memory_order_relaxed);
    atomic_fetch_add_explicit(&tunnel->all_in, packets, memory_order_relaxed);
    atomic_fetch_add_explicit(&tunnel->bytes_in, bytes, memory_order_relaxed);
    note_dirty(core, tunnel);
}

void note_out(struct core *core, struct tunnel *tunnel, int64_t now, uint64_t packets, uint64_t bytes)
{
    set_first(&tunnel->first_out, now);
    set_first(&tunnel->out_after_in, now);
    atomic_store_explicit(&tunnel->last_out, now, memory_order_relaxed);
    atomic_fetch_add_explicit(&tunnel->packets_out, packets, memory_order_relaxed);
    atomic_fetch_add_explicit(&tunnel->all_out, packets, memory_order_relaxed);
    atomic_fetch_add_explicit(&tunnel->bytes_out, bytes, memory_order_relaxed);
    note_dirty(core, tunnel);
}

/* A probe was answered. Python hears of it when it looks next: nothing it has to do follows from that. */
void note_frame(struct core *core, struct tunnel *tunnel, int64_t now, uint32_t reported, uint64_t bytes_in,
                uint64_t bytes_out)
{
    if (reported > atomic_load_explicit(&tunnel->reported, memory_order_relaxed))
        atomic_store_explicit(&tunnel->reported, reported, memory_order_relaxed);
    atomic_store_explicit(&tunnel->frame_at, now, memory_order_relaxed);
    atomic_store_explicit(&tunnel->out_after_in, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&tunnel->packets_in, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&tunnel->all_in, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&tunnel->bytes_in, bytes_in, memory_order_relaxed);
    atomic_fetch_add_explicit(&tunnel->packets_out, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&tunnel->all_out, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&tunnel->bytes_out, bytes_out, memory_order_relaxed);
    if (list_number(core, &core->quiet, tunnel, &tunnel->quiet) == 1)
        wake(core);
}
