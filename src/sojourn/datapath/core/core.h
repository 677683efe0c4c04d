/* The C core of the data path: sealed tunnels without Python in the loop (docs/architecture.md).
 *
 *   packet.h   what is in a packet: headers, flow keys, checksums          no state
 *   hash.c     which bucket, by a secret key
 *   seal.h     AEAD, send counters, replay windows                         one epoch of one tunnel each
 *   table.c    rows by flow key, tunnels by index, and when memory is free
 *   rules.h    new flows that need no Python: rules.c, births.c
 *   notice.c   what goes up to Python, bounded
 *   send.c     TUN -> UDP: super-packets cut where they lie, sealed in batches
 *   open.c     UDP -> TUN, first half: datagrams opened where they lie, by any thread
 *   receive.c  UDP -> TUN, second half: replay checked, runs written as super-packets, by one thread at a time
 *   answer.c   probes that need no decision, answered
 *   line.c     keeps the order between the two
 *   worker.h   threads and system calls: transmit.c, gather.c, worker.c
 *   module*.c  what Python sees
 *
 * Python decides, the core carries out: it forwards what a row and a path answer and hands everything else
 * up. Python is the only writer of paths and keys, and of rows but for learning. Readers take no lock: what they
 * may still be looking at is given back only after each worker has come to the end of a turn (table.c).
 * Times are nanoseconds of CLOCK_BOOTTIME. */
#ifndef SOJOURN_CORE_H
#define SOJOURN_CORE_H

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "seal.h"

/* table.c */

struct udp_socket {
    _Atomic int fd; /* -1: closed, and for somebody else */
    int64_t tunnel; /* a host's; NO_TUNNEL: listening */
    bool gro;
    _Atomic bool gso;
};

/* Where a tunnel's packets may be sent without asking Python. Never changed: replaced. */
struct path {
    int64_t association;
    struct udp_socket *socket;
    struct sockaddr_in6 to; /* or a sockaddr_in */
    socklen_t to_bytes;
    uint8_t via[VIA_BYTES]; /* in_pktinfo or in6_pktinfo of an answer */
    uint8_t via_bytes;
    bool may_send; /* false: only what comes is delivered without asking */
    uint16_t inner_mtu;
};

/* What Python has counted of a tunnel by itself, without which no probe can be answered (answer.c). */
struct books {
    bool good;      /* false: Python has sealed or opened something since */
    uint64_t up_to; /* the last packet that Python had of it: epoch and counter */
    uint64_t in, out;
};

struct tunnel {
    _Atomic(struct tunnel *) next;
    uint32_t id;
    _Atomic(struct path *) path; /* NULL: everything goes up */
    _Atomic(struct send_key *) send;
    _Atomic(struct receive_keys *) receive;
    _Atomic uint32_t current; /* the newest epoch opened */
    _Atomic int64_t hold;     /* learning does not come back here for so long */
    pthread_mutex_t lock;     /* of marking the windows, and of: */
    struct books books;
    uint64_t last_up; /* the last packet that went up to Python: epoch and counter */
    _Atomic bool failing, asked_step;
    /* Since Python took them last (0: never). */
    _Atomic bool dirty, quiet;
    _Atomic int64_t frame_at;  /* the last probe that was answered here */
    _Atomic uint32_t reported; /* the newest of our epochs that such probes have said the peer to have opened */
    _Atomic int64_t first_in, last_in, first_out, out_after_in, last_out;
    _Atomic uint64_t packets_in, bytes_in, packets_out, bytes_out;
    _Atomic uint64_t all_in, all_out; /* packets_in and packets_out, never taken */
    uint64_t taken_in, taken_out;     /* of these what Python has taken; its thread's alone */
};

enum { OUTWARD, INWARD, WAYS }; /* from the TUN, to the TUN */

struct row {
    _Atomic(struct row *) next;
    uint64_t hash;
    struct flow_key key;
    int64_t association;
    int64_t move; /* the number of the request that put it where it is; Python's alone */
    _Atomic int64_t tunnel, left; /* NO_TUNNEL: none */
    _Atomic int64_t left_at;
    _Atomic int64_t closing; /* when FIN or RST was seen, 0: not */
    _Atomic bool slow;       /* more than "one tunnel": Python's */
    _Atomic bool answered;   /* a packet from here was seen: a host's Python wants the first one */
    _Atomic bool linked;
    _Atomic uint8_t queue;   /* of the TUN, from which its packets were read: theirs are written there, too */
    bool adopted; /* an object of Python's has it (rules.h); written under `writing` */
    _Atomic int64_t last_used;
    _Atomic int64_t behind_until[WAYS]; /* until then packets go behind those of theirs that Python still has */
    _Atomic uint64_t packets_in, bytes_in, packets_out, bytes_out; /* since Python took them last */
};

enum { ROW_BUCKETS = 1 << 17, TUNNEL_BUCKETS = 1 << 14, PLACES = 1 << 12, NO_PLACE = PLACES };

struct retired {
    struct retired *next;
    void *what;
    void (*free)(void *);
    uint64_t turns[MAX_THREADS];
};

/* What one host's packets may take of an anchor's queue: others' control frames have to find room in it. */
enum { SHARES = 256, NO_PATH_SHARE = SHARES - 1, NO_SHARE = SHARES, PART_OF_ONE = 4 };

enum ring { FROM_TUN, FROM_PEERS, FROM_STRANGERS, RINGS };

enum notice_kind { READ, DATAGRAM, OPENED, ADVANCED, LEARNED, FAILED, TUN_GONE, STEP };

struct notice {
    struct notice *next;
    enum notice_kind kind;
    uint16_t place; /* of its flow in `pending`, or NO_PLACE */
    uint16_t share; /* its association's, of tunnels without a path all have one, or NO_SHARE */
    int64_t tunnel;
    uint32_t epoch, counter;
    uint64_t before; /* packets of its tunnel that were delivered without Python */
    uint8_t hint, ecn;
    bool highest;
    int fd;
    uint32_t bytes; /* of the datagram */
    int64_t at;
    struct sockaddr_in6 from;
    uint8_t via[VIA_BYTES];
    uint8_t via_bytes;
    uint32_t size;
    uint8_t data[];
};

struct queue {
    pthread_mutex_t lock;
    struct notice *first, **last;
    size_t bytes, most_bytes;
    unsigned count, most;
    struct {
        size_t bytes;
        unsigned count;
    } shares[SHARES + 1];
};

/* Names in module.c, in this order. */
enum count {
    C_WRONG_TUNNEL, C_FORGED, C_REPLAYED, C_QUEUE_FULL, C_TOO_BIG, C_NOT_SENT_EPERM, C_NOT_SENT, C_NOT_WRITTEN_EINVAL,
    C_NOT_WRITTEN_EIO, C_NOT_WRITTEN, C_SLOW_FULL, C_SLOW_READS, C_SLOW_PACKETS, C_MESSAGES, C_WRITES, C_NO_MEMORY, C_FLOWS_BEGUN,
    C_FLOW_RATE, C_FLOWS_FULL, C_ANSWERED, COUNTS
};

struct worker;

struct core {
    bool inbound_reads; /* packets from the TUN travel to a mobile host: we are its anchor */
    _Atomic int queues[MAX_WORKERS]; /* descriptors of the TUN, -1: none; a flow stays on one */
    _Atomic uint8_t read_on[PLACES]; /* by a flow's hash: the queue, plus one, from which packets without a row came */
    _Atomic bool tun_uso;
    int wake_fd;
    _Atomic bool woken, polling;
    _Atomic(struct row *) *rows;
    _Atomic(struct tunnel *) *tunnels;
    uint64_t seed[2];      /* of `siphash`, new with each start */
    struct births *births; /* rules.h */
    pthread_mutex_t writing;  /* of the tables */
    pthread_mutex_t retiring; /* of the list of what was retired */
    struct retired *retired;
    struct udp_socket sockets[MAX_SOCKETS];
    struct queue rings[RINGS];
    _Atomic uint32_t pending[WAYS][PLACES]; /* packets that Python has or is to get, by their flow's hash */
    struct notice *taken;                   /* what Python works on now */
    pthread_mutex_t dirty_lock;
    struct numbers {
        uint32_t *at;
        unsigned count, room;
    } dirty, quiet; /* tunnels that did something: with data, and with nothing but answered probes */
    _Atomic uint64_t counts[COUNTS];
    struct worker *workers[MAX_THREADS];
    struct line *line;
    unsigned each; /* workers of each direction */
    _Atomic uint64_t turns[MAX_THREADS]; /* odd: busy */
    _Atomic bool stopping;
    bool running;
};

struct core *core_new(void);
void core_free(struct core *core);
int64_t now_ns(void);
static inline void count_in(struct core *core, enum count which, uint64_t many)
{
    atomic_fetch_add_explicit(&core->counts[which], many, memory_order_relaxed);
}

uint64_t siphash(const uint64_t key[2], const uint8_t *data, size_t size); /* hash.c */
uint64_t hash_of(const struct core *core, const struct flow_key *key);
struct row *row_at(struct core *core, const struct flow_key *key, uint64_t hash);
bool in_turn(struct core *core, struct row *row, unsigned way, int64_t now);
void sent_up(struct row *row, unsigned way, int64_t now);
struct row *row_new(int64_t association, int64_t tunnel);
bool row_link(struct core *core, struct row *row, const struct flow_key *key, bool adopted);
void row_unlink(struct core *core, struct row *row);
bool row_adopt(struct core *core, struct row *row);
enum move_result { NOT_OURS, STALE, UNCHANGED, MOVED };
enum move_result row_move(struct row *row, int64_t tunnel, int64_t number, int64_t now);
struct tunnel *tunnel_find(struct core *core, uint32_t id);
struct tunnel *tunnel_make(struct core *core, uint32_t id);
void tunnel_forget(struct core *core, uint32_t id);
void retire(struct core *core, void *what, void (*free_it)(void *));
void reap(struct core *core);
void quiesce(struct core *core);

void note_in(struct core *core, struct tunnel *tunnel, int64_t now, uint64_t packets, uint64_t bytes);
void note_out(struct core *core, struct tunnel *tunnel, int64_t now, uint64_t packets, uint64_t bytes);
void note_frame(struct core *core, struct tunnel *tunnel, int64_t now, uint32_t reported, uint64_t bytes_in,
                uint64_t bytes_out);
static inline void row_in(struct row *row, int64_t now, uint64_t packets, uint64_t bytes)
{
    atomic_store_explicit(&row->last_used, now, memory_order_relaxed);
    atomic_fetch_add_explicit(&row->packets_in, packets, memory_order_relaxed);
    atomic_fetch_add_explicit(&row->bytes_in, bytes, memory_order_relaxed);
}
static inline void row_out(struct row *row, int64_t now, uint64_t packets, uint64_t bytes)
{
    atomic_store_explicit(&row->last_used, now, memory_order_relaxed);
    atomic_fetch_add_explicit(&row->packets_out, packets, memory_order_relaxed);
    atomic_fetch_add_explicit(&row->bytes_out, bytes, memory_order_relaxed);
}
static inline void row_flags(struct row *row, uint8_t flags, int64_t now)
{
    if (flags & (FIN | RST)) {
        int64_t open = 0;
        atomic_compare_exchange_strong(&row->closing, &open, now);
    } else if ((flags & (SYN | ACK)) == SYN) {
        atomic_store(&row->closing, 0);
    }
}

/* notice.c */

struct notice *notice_new(struct core *core, enum notice_kind kind, int64_t tunnel, const void *data, size_t size);
void notice_put(struct core *core, enum ring ring, struct notice *notice);
void notify(struct core *core, enum ring ring, enum notice_kind kind, int64_t tunnel, uint32_t value,
            const void *data, size_t size);
struct notice *notice_take(struct core *core, enum ring ring);
void notices_done(struct core *core);
void wake(struct core *core);

/* send.c */

struct sender;
/* Send `count` datagrams of `width` bytes each (the last may be shorter), `size` in all. */
typedef void transmit_fn(struct sender *sender, struct tunnel *tunnel, struct path *path, const uint8_t *data,
                         size_t size, unsigned width, unsigned count, unsigned ecn);

struct sender {
    struct core *core;
    unsigned thread;
    transmit_fn *transmit;
    void *context;
    uint8_t *input, *output; /* INPUT_BYTES, 65536 */
    struct tunnel *tunnel;   /* of the message that waits for more */
    struct path *path;
    unsigned count, width, end, ecn;
    uint16_t place; /* of the flow that was read last */
    struct row *row;
    uint8_t queue; /* of the TUN, that was read */
};

bool sender_init(struct sender *sender, struct core *core, unsigned thread, transmit_fn *transmit, void *context);
void sender_clear(struct sender *sender);
void sender_take(struct sender *sender, size_t size, int64_t now);
void sender_flush(struct sender *sender, int64_t now);
bool reserve_counters(struct core *core, struct tunnel *tunnel, struct send_key *key, unsigned count, uint64_t *first);
bool seal_at(struct send_key *key, unsigned thread, uint8_t *at, uint32_t word, uint64_t counter, const uint8_t *text,
             size_t size);

/* open.c */

struct batch { /* what one call has given */
    uint8_t *data;
    size_t size, segment; /* `segment` is not 0 */
    const struct udp_socket *socket;
    struct sockaddr_in6 from;
    socklen_t from_bytes;
    uint8_t via[VIA_BYTES];
    uint8_t via_bytes, ecn;
    unsigned bank;
};

enum opening { OPENED_NEW, OPENED_NOT, OPENED_REPLAY, OPENED_NO_KEY, NOT_SEALED, NOT_OF_ITS_SOCKET };

/* What became of one datagram. No pointers: another thread goes on with it, in a turn of its own. */
struct found {
    enum opening result;
    uint8_t hint;
    uint32_t epoch, counter;
    uint64_t key; /* `serial` of the one that has opened it */
};

struct finds {
    struct found *at;
    size_t count, room;
};

struct opened {
    uint32_t epoch, counter;
    uint8_t hint;
    bool highest, advanced;
};

bool open_batch(struct core *core, const struct batch *batch, unsigned thread, uint8_t *scratch, struct finds *finds);

enum opening tunnel_open(struct tunnel *tunnel, unsigned thread, uint8_t *datagram, size_t size, uint8_t *scratch,
                         struct found *found);
bool tunnel_saw(struct tunnel *tunnel, const uint8_t *datagram);
bool tunnel_mark(struct tunnel *tunnel, const struct found *found, struct opened *opened);
static inline size_t datagrams_of(const struct batch *batch)
{
    return (batch->size + batch->segment - 1) / batch->segment;
}
static inline size_t nth_size(const struct batch *batch, size_t at)
{
    return batch->size - at < batch->segment ? batch->size - at : batch->segment;
}

/* receive.c */

struct receiver;
/* Write a packet on the queue of the TUN that its flow has. */
typedef void write_fn(struct receiver *receiver, unsigned queue, const struct iovec *parts, int count);

/* Send a datagram back where its tunnel's packets come from. */
typedef void answer_fn(struct receiver *receiver, struct tunnel *tunnel, struct path *path, const uint8_t *data,
                       size_t size);

enum { RUN_MOST = 128, BANKS = 2 };

/* Packets of one flow that leave by one write. */
struct run {
    struct row *row; /* NULL: there is none; to be compared alone: another thread's turn may be the one that ends it */
    struct view view;
    uint8_t queue;
    unsigned packets;
    size_t total; /* bytes of the packet that is written */
    uint16_t payload;
    bool closed; /* nothing may be joined any more */
    uint32_t sequence;
    uint16_t identification;
    unsigned bank; /* where its first part lies: the oldest */
    uint8_t header[VNET_BYTES + MAX_HEAD];
    struct iovec parts[RUN_MOST + 1];
};

struct receiver {
    struct core *core;
    write_fn *write;
    answer_fn *answer; /* NULL: all probes go up */
    void *context;
    struct run run;
    uint16_t place; /* of the flow whose packet was opened last */
    struct row *row;
};

void receiver_init(struct receiver *receiver, struct core *core, write_fn *write, void *context);
void receiver_take(struct receiver *receiver, const struct batch *batch, const struct found *found, int64_t now);
void receiver_flush(struct receiver *receiver);
void receiver_keep_bank(struct receiver *receiver, unsigned bank);

/* answer.c */

bool answer_probe(struct receiver *receiver, struct tunnel *tunnel, struct path *path, const uint8_t *text, size_t size,
                  int64_t now);

/* line.c */

void line_drain(struct line *line);

/* worker.c */

bool workers_make(struct core *core, unsigned each);
bool workers_start(struct core *core);
void workers_stop(struct core *core);
bool watch_tun(struct core *core, int fd, bool uso);
struct udp_socket *watch_socket(struct core *core, int fd, int64_t tunnel, bool gso, bool gro);
void unwatch(struct core *core, int fd);
struct udp_socket *find_socket(struct core *core, int fd);
int64_t behind(struct core *core);

#endif
