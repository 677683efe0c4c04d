/* Threads and system calls.
 *
 *   transmit.c  what leaves by sockets, and reading the TUN
 *   gather.c    reading sockets, and what goes to the TUN
 *   line.c      keeps what several threads receive in order
 *   worker.c    the threads themselves, and which descriptors each of them waits for
 *
 * Each direction has `core->each` threads. Every queue of the TUN belongs to one of the senders, and the kernel keeps a
 * flow on one queue, so what a flow sends stays in order. Whatever comes by sockets is one sequence, the line: the first
 * receiver waits for all sockets; when there is more than it takes out by one call, it calls the others to help. They
 * read one after the other, open at the same time, and what was opened is delivered in the order in which it was read,
 * by whoever has just opened what is next. So nobody waits for anybody, no flow has to stay with a thread (a host's
 * tunnel is one pair of addresses: the kernel could not tell its flows apart), and with little to do one thread runs. */
#ifndef SOJOURN_WORKER_H
#define SOJOURN_WORKER_H

#include "core.h"

enum {
    READS_PER_TURN = 64,
    TIME_PER_TURN = 2000000,
    CONTROL_BYTES = 128,
    FEW = 4,   /* messages of one recvmmsg where each is a batch */
    MANY = 32, /* and where each is one datagram */
};

struct message {
    uint8_t *data; /* 65536 */
    struct sockaddr_in6 from;
    struct iovec part;
    union {
        struct cmsghdr first; /* for its alignment */
        uint8_t bytes[CONTROL_BYTES];
    } control;
};

/* What one call has given. */
struct load {
    struct message messages[MANY];
    struct mmsghdr headers[MANY];
    struct batch batches[MANY];
    unsigned count; /* of batches */
    bool last;      /* nothing more was there */
    int64_t now;
    struct finds finds;
    _Atomic uint64_t opened; /* its number plus one, once that is done */
};

struct line;
/* Fill a load; say whether there may be more. */
typedef bool fill_fn(struct line *line, struct load *load, struct udp_socket *socket);

/* Loads are numbered from 0 in the order in which they are read; number n is in the place n % room. */
struct line {
    struct core *core;
    fill_fn *fill;
    unsigned room;
    struct load *loads;
    pthread_mutex_t reading;
    _Atomic uint64_t read, delivered, released; /* numbers: read up to here, delivered, to be filled again */
    _Atomic bool delivering;                    /* by one thread at a time: */
    struct receiver receiver;
};

struct line *line_new(struct core *core, unsigned threads, fill_fn *fill, write_fn *write, void *context);
void line_free(struct line *line);
bool line_take(struct line *line, struct udp_socket *socket, unsigned thread, uint8_t *scratch, bool ends);
bool line_waits(const struct line *line);

struct worker {
    struct core *core;
    unsigned number; /* of the thread: a sender's from 1, a receiver's from 1 + MAX_WORKERS */
    pthread_t thread;
    bool started;
    int epoll, stop; /* a receiver that helps has no epoll, and is called by `stop` */
    struct sender sender;
    uint8_t *scratch;                   /* a receiver's */
    _Atomic(struct udp_socket *) helps; /* what it is called for */
};

enum { FIRST_SENDER = 1, FIRST_RECEIVER = 1 + MAX_WORKERS };

transmit_fn transmit;
answer_fn send_answer;
void read_tun(struct worker *worker, unsigned queue);
fill_fn read_messages;
write_fn write_tun;
void read_socket(struct worker *worker, struct udp_socket *socket);
void call_helpers(struct core *core, struct udp_socket *socket);

#endif
