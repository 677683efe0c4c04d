/* Flows begin without Python: it hears of them afterwards, in batches. Which thread owns what: rules.h. */
#include "rules.h"

#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int64_t ONE_FLOW = 1000000000ll / FLOWS_PER_SECOND;

bool births_make(struct core *core)
{
    struct births *births = core->births = calloc(1, sizeof *births);
    if (!births)
        return false;
    pthread_mutex_init(&births->lock, NULL);
    births->last = &births->first;
    atomic_store(&births->owners, -1);
    return true;
}

/* All workers have ended. Rows that Python has not taken are ours. */
void births_free(struct core *core)
{
    struct births *births = core->births;
    if (!births)
        return;
    for (struct birth *at = births->first, *next; at; at = next) {
        next = at->next;
        free(at->row);
        free(at);
    }
    for (unsigned i = 0; i < HOLDERS; i++)
        for (struct holder *at = atomic_load(&births->holders[i]), *next; at; at = next) {
            next = atomic_load(&at->next);
            free(at);
        }
    for (unsigned i = 0; i < KNOWN_USERS; i++)
        known_free(atomic_load(&births->users[i]));
    guard_free(atomic_load(&births->guard));
    book_free(atomic_load(&births->book));
    pthread_mutex_destroy(&births->lock);
    free(births);
}

/* Associations. Python's thread is the only one that changes them. */

static _Atomic(struct holder *) *bucket(struct core *core, int64_t association)
{
    return &core->births->holders[(uint64_t)association * 0x9E3779B97F4A7C15ull >> 52]; /* HOLDERS of them */
}

struct holder *holder_find(struct core *core, int64_t association)
{
    struct holder *holder = atomic_load_explicit(bucket(core, association), memory_order_acquire);
    while (holder && holder->association != association)
        holder = atomic_load_explicit(&holder->next, memory_order_acquire);
    return holder;
}

static void holder_unlink(struct core *core, struct holder *holder)
{
    _Atomic(struct holder *) *at = bucket(core, holder->association);
    while (atomic_load(at) != holder)
        at = &atomic_load(at)->next;
    atomic_store_explicit(at, atomic_load(&holder->next), memory_order_release);
    if (atomic_load(&core->births->own) == holder)
        atomic_store(&core->births->own, NULL);
    retire(core, holder, free);
}

/* Say which addresses an association has; NULL: none of that family. What it has begun goes on counting. */
bool holder_set(struct core *core, int64_t association, const uint8_t *four, const uint8_t *six)
{
    struct holder *before = holder_find(core, association), *holder = calloc(1, sizeof *holder);
    if (!holder)
        return false;
    holder->association = association;
    holder->has_four = four != NULL, holder->has_six = six != NULL;
    if (four)
        memcpy(holder->four, four, sizeof holder->four);
    if (six)
        memcpy(holder->six, six, sizeof holder->six);
    atomic_store(&holder->full_at, before ? atomic_load(&before->full_at) : INT64_MIN);
    if (before)
        holder_unlink(core, before);
    atomic_store(&holder->next, atomic_load(bucket(core, association)));
    atomic_store_explicit(bucket(core, association), holder, memory_order_release);
    if (!core->inbound_reads)
        atomic_store(&core->births->own, holder);
    return true;
}

void holder_drop(struct core *core, int64_t association)
{
    struct holder *holder = holder_find(core, association);
    if (holder)
        holder_unlink(core, holder);
}

static bool is_local(const struct holder *holder, const struct flow_key *key)
{
    return key->size == FLOW_KEY_MOST ? holder->has_six && !memcmp(key->bytes + 1, holder->six, 16)
                                      : holder->has_four && !memcmp(key->bytes + 1, holder->four, 4);
}

/* Say whether a host may begin one more flow now, and count it: bucket.py, in one atomic number. */
bool may_begin(struct holder *holder, int64_t now)
{
    int64_t full_at = atomic_load(&holder->full_at), from;
    do {
        from = full_at > now ? full_at : now;
        if (from - now > (FLOWS_AT_ONCE - 1) * ONE_FLOW)
            return false;
    } while (!atomic_compare_exchange_weak(&holder->full_at, &full_at, from + ONE_FLOW));
    return true;
}

/* Programs. */

static unsigned user_place(const struct core *core, const uint8_t *user)
{
    return (unsigned)(siphash(core->seed, user, USER_BYTES) % KNOWN_USERS);
}

/* Take in what Python has worked out for a program; two that share a place take turns. */
void know_user(struct core *core, struct known *known)
{
    memset(known->user + USER_PROCESS_AT, 0, 4);
    retire(core, atomic_exchange(&core->births->users[user_place(core, known->user)], known), known_free);
}

static const struct known *known_user(struct core *core, const struct book *book, const uint8_t *record)
{
    uint8_t user[USER_BYTES];
    memcpy(user, record, sizeof user);
    memset(user + USER_PROCESS_AT, 0, 4);
    const struct known *known =
        atomic_load_explicit(&core->births->users[user_place(core, user)], memory_order_acquire);
    return known && known->version == book->version && !memcmp(known->user, user, sizeof user) ? known : NULL;
}

/* Ask the kernel's programs who has just sent the first packet of a flow (bpf/maps.h, `flows`): half a microsecond. */
static bool ask_owner(struct core *core, const struct flow_key *key, uint8_t *user)
{
    const int fd = atomic_load_explicit(&core->births->owners, memory_order_relaxed);
    uint8_t padded[OWNER_KEY_BYTES] = {0};
    if (fd < 0)
        return false;
    memcpy(padded, key->bytes, key->size);
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.map_fd = (uint32_t)fd;
    attr.key = (uint64_t)(uintptr_t)padded;
    attr.value = (uint64_t)(uintptr_t)user;
    return syscall(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &attr, 32) >= 0; /* as linux/bpf_map.py: what is about one element */
}

/* Births. */

static unsigned share_of(int64_t association) { return (unsigned)((uint64_t)association % SHARES); }

static bool reserve(struct core *core, int64_t association, bool *refused)
{
    struct births *births = core->births;
    const unsigned most = MOST_BIRTHS / (core->inbound_reads ? PART_OF_ONE : 1);
    pthread_mutex_lock(&births->lock);
    bool room = births->count < MOST_BIRTHS && births->shares[share_of(association)] < most;
    if (room)
        births->count++, births->shares[share_of(association)]++;
    pthread_mutex_unlock(&births->lock);
    *refused = !room;
    if (!room)
        count_in(core, C_FLOWS_FULL, 1);
    return room;
}

static void give_back(struct core *core, int64_t association)
{
    pthread_mutex_lock(&core->births->lock);
    core->births->count--, core->births->shares[share_of(association)]--;
    pthread_mutex_unlock(&core->births->lock);
}

/* Make the row of a flow for which there is room, and tell; NULL: another thread was faster, or no memory. */
static struct row *bear(struct core *core, int64_t association, int64_t tunnel, const struct flow_key *key,
                        struct birth *birth, int64_t now)
{
    struct births *births = core->births;
    struct birth *kept = malloc(sizeof *kept);
    struct row *row = kept ? row_new(association, tunnel) : NULL;
    if (!row) {
        free(kept);
        count_in(core, C_NO_MEMORY, 1);
        return NULL;
    }
    atomic_store(&row->answered, !core->inbound_reads);
    atomic_store(&row->last_used, now);
    if (!row_link(core, row, key, false)) {
        free(row);
        free(kept);
        return NULL;
    }
    *kept = *birth;
    kept->row = row;
    kept->at = now;
    kept->next = NULL;
    pthread_mutex_lock(&births->lock);
    *births->last = kept;
    births->last = &kept->next;
    pthread_mutex_unlock(&births->lock);
    count_in(core, C_FLOWS_BEGUN, 1);
    return row;
}

/* Return the oldest birth, or NULL. It is the caller's. */
struct birth *births_take(struct core *core)
{
    struct births *births = core->births;
    pthread_mutex_lock(&births->lock);
    struct birth *birth = births->first;
    if (birth) {
        births->first = birth->next;
        if (!births->first)
            births->last = &births->first;
        births->count--, births->shares[share_of(birth->row->association)]--;
    }
    pthread_mutex_unlock(&births->lock);
    return birth;
}

static bool with_python(const struct core *core, unsigned way, uint64_t hash)
{
    return atomic_load_explicit(&core->pending[way][hash % PLACES], memory_order_acquire) != 0;
}

/* Anchor: an authentic packet came on `tunnel`. `refused`: the host begins more flows than it may. */
struct row *born_there(struct core *core, int64_t association, uint32_t tunnel, const struct flow_key *key,
                       uint64_t hash, int64_t now, bool *refused)
{
    struct birth birth = {0};
    struct holder *holder = holder_find(core, association);
    const struct guard *guard = atomic_load_explicit(&core->births->guard, memory_order_acquire);
    if (!core->inbound_reads || !holder || !guard || !is_local(holder, key) || !guard_passes(guard, key) ||
        with_python(core, INWARD, hash) || !reserve(core, association, refused))
        return NULL;
    *refused = !may_begin(holder, now);
    if (*refused)
        count_in(core, C_FLOW_RATE, 1);
    struct row *row = *refused ? NULL : bear(core, association, tunnel, key, &birth, now);
    if (!row)
        give_back(core, association);
    return row;
}

static bool can_send(struct core *core, int64_t tunnel, int64_t association)
{
    struct tunnel *found = tunnel >= 0 ? tunnel_find(core, (uint32_t)tunnel) : NULL;
    const struct path *path = found ? atomic_load_explicit(&found->path, memory_order_acquire) : NULL;
    return path && path->may_send && path->association == association && atomic_load(&found->send);
}

/* Mobile host: a program of this machine has sent a packet. Where the kernel's programs do not know which one, its socket
 * has to be looked at while it is open: Python does that before the packet goes on. */
struct row *born_here(struct core *core, const struct flow_key *key, uint64_t hash, int64_t now, bool *refused)
{
    struct birth birth = {0};
    const struct holder *holder = atomic_load_explicit(&core->births->own, memory_order_acquire);
    const struct book *book = atomic_load_explicit(&core->births->book, memory_order_acquire);
    if (core->inbound_reads || !holder || !book || !is_local(holder, key) || with_python(core, OUTWARD, hash) ||
        !ask_owner(core, key, birth.user))
        return NULL;
    const struct chain *chain = &book->nobody;
    if (book->asks) {
        const struct known *known = known_user(core, book, birth.user);
        if (!known)
            return NULL;
        chain = &known->chain;
    }
    int which;
    const int64_t tunnel = book_place(book, chain, key, &which);
    if (!can_send(core, tunnel, holder->association) ||
        !reserve(core, holder->association, refused))
        return NULL;
    birth.version = book->version;
    struct row *row = bear(core, holder->association, tunnel, key, &birth, now);
    if (!row)
        give_back(core, holder->association);
    return row;
}
