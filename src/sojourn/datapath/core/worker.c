/* Threads and system calls: one thread reads the TUN and sends, one reads the sockets and writes.
 *
 * Neither ever waits for anything but its descriptors. A turn takes a few reads, or TIME_PER_TURN; what waits for more
 * of its kind leaves at the end of it. */
#include "core.h"

#include <errno.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
    READS_PER_TURN = 64,
    TIME_PER_TURN = 2000000,
    CONTROL_BYTES = 128,
    FEW = 4,   /* messages of one recvmmsg where each is a batch */
    MANY = 32, /* and where each is one datagram */
    EVENTS = 16,
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

struct bank {
    struct message messages[MANY];
    struct mmsghdr headers[MANY];
};

struct worker {
    struct core *core;
    unsigned number;
    pthread_t thread;
    bool started;
    int epoll, stop;
    struct sender sender;
    struct receiver receiver;
    struct bank *banks; /* BANKS of them */
    unsigned bank;
};

enum { SENDING = 1, RECEIVING = 2 };

/* Sending. */

static void not_sent(struct core *core, struct tunnel *tunnel, int error, unsigned count)
{
    switch (error) {
    case EAGAIN: case ENOBUFS: case ENOMEM:
        count_in(core, C_QUEUE_FULL, count); /* lost, as a router would lose it */
        break;
    case EMSGSIZE:
        count_in(core, C_TOO_BIG, 1);
        break;
    case ENETUNREACH: case EHOSTUNREACH: case ENETDOWN: case ENODEV: case ENXIO: case EADDRNOTAVAIL:
        if (!atomic_exchange(&tunnel->failing, true))
            notify(core, FROM_PEERS, FAILED, tunnel->id, (uint32_t)error, NULL, 0);
        break;
    default:
        count_in(core, error == EPERM ? C_NOT_SENT_EPERM : C_NOT_SENT, count);
    }
}

static void put_control(struct msghdr *message, int level, int type, const void *data, size_t size)
{
    struct cmsghdr *entry = (struct cmsghdr *)((uint8_t *)message->msg_control + message->msg_controllen);
    memset(entry, 0, CMSG_SPACE(size));
    entry->cmsg_level = level;
    entry->cmsg_type = type;
    entry->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(entry), data, size);
    message->msg_controllen += CMSG_SPACE(size);
}

static void put_common_control(struct msghdr *message, const struct path *path, unsigned ecn)
{
    const bool six = path->to.sin6_family == AF_INET6;
    const int field = (int)ecn;
    if (ecn)
        put_control(message, six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_TCLASS : IP_TOS, &field, sizeof field);
    if (path->via_bytes)
        put_control(message, six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_PKTINFO : IP_PKTINFO, path->via,
                    path->via_bytes);
}

/* The kernel, or this route, does not cut for us. */
static void transmit_singly(struct core *core, struct tunnel *tunnel, int fd, const struct msghdr *like,
                            const uint8_t *data, size_t size, unsigned width)
{
    struct mmsghdr headers[MAX_SEGMENTS];
    struct iovec parts[MAX_SEGMENTS];
    unsigned count = 0, done = 0;
    for (size_t at = 0; at < size && count < MAX_SEGMENTS; at += width, count++) {
        parts[count] = (struct iovec){(void *)(data + at), size - at < width ? size - at : width};
        headers[count].msg_hdr = *like;
        headers[count].msg_hdr.msg_iov = &parts[count];
    }
    while (done < count) {
        int sent = sendmmsg(fd, headers + done, count - done, 0);
        if (sent > 0)
            done += (unsigned)sent;
        else
            not_sent(core, tunnel, errno, 1), done++;
    }
}

static void transmit(struct sender *sender, struct tunnel *tunnel, struct path *path, const uint8_t *data,
                     size_t size, unsigned width, unsigned count, unsigned ecn)
{
    struct core *core = sender->core;
    struct udp_socket *socket = path->socket;
    const int fd = atomic_load_explicit(&socket->fd, memory_order_relaxed);
    const uint16_t segment = (uint16_t)width;
    uint8_t control[CONTROL_BYTES] __attribute__((aligned(8)));
    struct iovec part = {(void *)data, size};
    struct msghdr message = {.msg_name = &path->to, .msg_namelen = path->to_bytes, .msg_iov = &part, .msg_iovlen = 1};
    message.msg_control = control;
    put_common_control(&message, path, ecn);
    count_in(core, C_MESSAGES, 1);
    struct msghdr single = message;
    if (count > 1 && atomic_load_explicit(&socket->gso, memory_order_relaxed)) {
        put_control(&message, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment);
    } else if (count > 1) {
        transmit_singly(core, tunnel, fd, &single, data, size, width);
        return;
    }
    if (!message.msg_controllen)
        message.msg_control = NULL;
    if (sendmsg(fd, &message, 0) >= 0) {
        if (atomic_load_explicit(&tunnel->failing, memory_order_relaxed))
            atomic_store(&tunnel->failing, false);
    } else if (count > 1 && (errno == EIO || errno == EINVAL || errno == EMSGSIZE)) {
        /* EIO: this route cannot do it at all. The others: a segment is larger than the device's MTU. */
        if (errno == EIO)
            atomic_store(&socket->gso, false);
        transmit_singly(core, tunnel, fd, &single, data, size, width);
    } else {
        not_sent(core, tunnel, errno, count);
    }
}

static void read_tun(struct worker *worker)
{
    struct core *core = worker->core;
    struct sender *sender = &worker->sender;
    const int fd = atomic_load(&core->tun);
    int64_t now = now_ns(), until = now + TIME_PER_TURN;
    for (unsigned i = 0; fd >= 0 && i < READS_PER_TURN && now < until; i++) {
        ssize_t size = read(fd, sender->input, INPUT_BYTES);
        now = now_ns();
        if (size > 0) {
            sender_take(sender, (size_t)size, now);
        } else if (size == 0 || errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            epoll_ctl(worker->epoll, EPOLL_CTL_DEL, fd, NULL);
            notify(core, FROM_TUN, TUN_GONE, NO_TUNNEL, (uint32_t)errno, NULL, 0);
            break;
        }
    }
    sender_flush(sender, now);
}

/* Receiving. */

static void write_tun(struct receiver *receiver, const struct iovec *parts, int count)
{
    struct core *core = receiver->core;
    count_in(core, C_WRITES, 1);
    if (writev(atomic_load_explicit(&core->tun, memory_order_relaxed), parts, count) < 0)
        /* EINVAL: a packet that the kernel does not understand; EIO: the device is down. */
        count_in(core, errno == EINVAL ? C_NOT_WRITTEN_EINVAL : errno == EIO ? C_NOT_WRITTEN_EIO : C_NOT_WRITTEN, 1);
}

/* Turn the address that a packet came to into the one that the answer leaves from (linux/udp.py). */
static void answer_from(struct batch *batch, const struct cmsghdr *entry)
{
    if (entry->cmsg_level == IPPROTO_IP && entry->cmsg_len >= CMSG_LEN(sizeof(struct in_pktinfo))) {
        struct in_pktinfo info, answer = {0};
        memcpy(&info, CMSG_DATA(entry), sizeof info);
        answer.ipi_spec_dst = info.ipi_addr;
        memcpy(batch->via, &answer, sizeof answer);
        batch->via_bytes = sizeof answer;
    } else if (entry->cmsg_level == IPPROTO_IPV6 && entry->cmsg_len >= CMSG_LEN(sizeof(struct in6_pktinfo))) {
        struct in6_pktinfo info;
        memcpy(&info, CMSG_DATA(entry), sizeof info);
        if (!IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
            info.ipi6_ifindex = 0;
        memcpy(batch->via, &info, sizeof info);
        batch->via_bytes = sizeof info;
    }
}

static void read_control(struct batch *batch, struct msghdr *message)
{
    for (struct cmsghdr *entry = CMSG_FIRSTHDR(message); entry; entry = CMSG_NXTHDR(message, entry)) {
        int value = 0;
        size_t size = entry->cmsg_len - CMSG_LEN(0);
        if (size)
            memcpy(&value, CMSG_DATA(entry), size < sizeof value ? size : sizeof value);
        if (entry->cmsg_level == IPPROTO_UDP && entry->cmsg_type == UDP_GRO)
            batch->segment = value > 0 ? (size_t)value : batch->size;
        else if ((entry->cmsg_level == IPPROTO_IP && entry->cmsg_type == IP_TOS) ||
                 (entry->cmsg_level == IPPROTO_IPV6 && entry->cmsg_type == IPV6_TCLASS))
            batch->ecn = value & 3;
        else if ((entry->cmsg_level == IPPROTO_IP && entry->cmsg_type == IP_PKTINFO) ||
                 (entry->cmsg_level == IPPROTO_IPV6 && entry->cmsg_type == IPV6_PKTINFO))
            answer_from(batch, entry);
    }
}

static int fill(struct bank *bank, int fd, unsigned most)
{
    for (unsigned i = 0; i < most; i++) {
        struct message *message = &bank->messages[i];
        message->part = (struct iovec){message->data, 65536};
        bank->headers[i].msg_hdr = (struct msghdr){
            .msg_name = &message->from, .msg_namelen = sizeof message->from, .msg_iov = &message->part,
            .msg_iovlen = 1, .msg_control = &message->control, .msg_controllen = CONTROL_BYTES,
        };
    }
    return recvmmsg(fd, bank->headers, most, MSG_DONTWAIT, NULL);
}

static void read_socket(struct worker *worker, struct udp_socket *socket)
{
    const int fd = atomic_load(&socket->fd);
    const unsigned most = socket->gro ? FEW : MANY;
    int64_t now = now_ns(), until = now + TIME_PER_TURN;
    for (unsigned turn = 0; fd >= 0 && turn < READS_PER_TURN && now < until; turn++) {
        struct bank *bank = &worker->banks[worker->bank];
        receiver_leave_bank(&worker->receiver, worker->bank);
        int got = fill(bank, fd, most);
        now = now_ns();
        for (int i = 0; i < got; i++) {
            struct message *message = &bank->messages[i];
            struct msghdr *header = &bank->headers[i].msg_hdr;
            struct batch batch = {.data = message->data, .size = bank->headers[i].msg_len, .socket = socket,
                                  .from = message->from, .from_bytes = header->msg_namelen, .bank = worker->bank};
            batch.segment = batch.size;
            read_control(&batch, header);
            if (batch.size && !(header->msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
                receiver_take(&worker->receiver, &batch, now);
        }
        worker->bank = (worker->bank + 1) % BANKS;
        if (got < (int)most) /* nothing more, or an ICMP error that says nothing we believe */
            break;
    }
    receiver_flush(&worker->receiver);
}

/* Threads. */

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct core *core = worker->core;
    struct epoll_event events[EVENTS];
    prctl(PR_SET_NAME, worker->number == SENDING ? "sojourn-send" : "sojourn-receive");
    while (!atomic_load(&core->stopping)) {
        int ready = epoll_wait(worker->epoll, events, EVENTS, -1);
        atomic_fetch_add(&core->turns[worker->number], 1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == worker)
                continue; /* the stop descriptor */
            if (worker->number == SENDING)
                read_tun(worker);
            else
                read_socket(worker, events[i].data.ptr);
        }
        atomic_fetch_add(&core->turns[worker->number], 1);
    }
    return NULL;
}

static void worker_free(struct worker *worker)
{
    for (unsigned i = 0; worker->banks && i < BANKS; i++)
        for (unsigned j = 0; j < MANY; j++)
            free(worker->banks[i].messages[j].data);
    free(worker->banks);
    sender_clear(&worker->sender);
    receiver_clear(&worker->receiver);
    if (worker->epoll >= 0)
        close(worker->epoll);
    if (worker->stop >= 0)
        close(worker->stop);
    free(worker);
}

static bool make_banks(struct worker *worker)
{
    worker->banks = calloc(BANKS, sizeof *worker->banks);
    for (unsigned i = 0; worker->banks && i < BANKS; i++)
        for (unsigned j = 0; j < MANY; j++)
            if (!(worker->banks[i].messages[j].data = malloc(65536)))
                return false;
    return worker->banks != NULL;
}

static struct worker *worker_new(struct core *core, unsigned number)
{
    struct worker *worker = calloc(1, sizeof *worker);
    struct epoll_event event = {.events = EPOLLIN};
    if (!worker)
        return NULL;
    worker->core = core;
    worker->number = number;
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    worker->stop = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    event.data.ptr = worker;
    bool ready = worker->epoll >= 0 && worker->stop >= 0 &&
                 !epoll_ctl(worker->epoll, EPOLL_CTL_ADD, worker->stop, &event) &&
                 (number == SENDING ? sender_init(&worker->sender, core, number, transmit, worker)
                                    : receiver_init(&worker->receiver, core, number, write_tun, worker) &&
                                          make_banks(worker));
    if (ready)
        return worker;
    worker_free(worker);
    return NULL;
}

/* Make the threads, and let them run. Signals are Python's. */
bool workers_start(struct core *core)
{
    sigset_t all, before;
    bool started = true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = SENDING; i <= RECEIVING && started; i++) {
        struct worker *worker = core->workers[i];
        started = worker->started = !pthread_create(&worker->thread, NULL, work, worker);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    core->running = started;
    return started;
}

bool workers_make(struct core *core)
{
    for (unsigned i = SENDING; i <= RECEIVING; i++)
        if (!(core->workers[i] = worker_new(core, i)))
            return false;
    return true;
}

void workers_stop(struct core *core)
{
    uint64_t one = 1;
    atomic_store(&core->stopping, true);
    for (unsigned i = 0; i < MAX_THREADS; i++) {
        struct worker *worker = core->workers[i];
        if (!worker)
            continue;
        if (worker->started && write(worker->stop, &one, sizeof one) == sizeof one)
            pthread_join(worker->thread, NULL);
        worker_free(worker);
        core->workers[i] = NULL;
    }
    core->running = false;
}

/* Descriptors. Python opens and closes them. */

bool watch_tun(struct core *core, int fd, bool uso)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    atomic_store(&core->tun_uso, uso);
    atomic_store(&core->tun, fd);
    return !epoll_ctl(core->workers[SENDING]->epoll, EPOLL_CTL_ADD, fd, &event);
}

struct udp_socket *watch_socket(struct core *core, int fd, int64_t tunnel, bool gso, bool gro)
{
    for (unsigned i = 0; i < MAX_SOCKETS; i++) {
        struct udp_socket *socket = &core->sockets[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = socket};
        if (atomic_load(&socket->fd) >= 0)
            continue;
        socket->tunnel = tunnel;
        socket->gro = gro;
        atomic_store(&socket->gso, gso);
        atomic_store(&socket->fd, fd);
        if (!epoll_ctl(core->workers[RECEIVING]->epoll, EPOLL_CTL_ADD, fd, &event))
            return socket;
        atomic_store(&socket->fd, -1);
        return NULL;
    }
    return NULL;
}

struct udp_socket *find_socket(struct core *core, int fd)
{
    for (unsigned i = 0; i < MAX_SOCKETS; i++)
        if (fd >= 0 && atomic_load(&core->sockets[i].fd) == fd)
            return &core->sockets[i];
    return NULL;
}

/* Have nothing more to do with a descriptor, which may be closed when this returns. */
void unwatch(struct core *core, int fd)
{
    struct udp_socket *socket = find_socket(core, fd);
    if (atomic_load(&core->tun) == fd) {
        epoll_ctl(core->workers[SENDING]->epoll, EPOLL_CTL_DEL, fd, NULL);
        atomic_store(&core->tun, -1);
    } else if (socket) {
        epoll_ctl(core->workers[RECEIVING]->epoll, EPOLL_CTL_DEL, fd, NULL);
        atomic_store(&socket->fd, -1);
    }
    quiesce(core);
}

/* Return the number of the receiving thread's turn while datagrams wait that it has not read, else -1. */
int64_t behind(struct core *core)
{
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(core->workers[RECEIVING]->epoll, events, EVENTS, 0);
    uint64_t turn = atomic_load(&core->turns[RECEIVING]);
    return ready > 0 || turn & 1 ? (int64_t)turn : -1;
}
