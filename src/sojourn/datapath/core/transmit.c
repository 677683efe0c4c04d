/* What leaves by sockets, and reading the TUN. */
#include "worker.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

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

static void send_message(struct core *core, struct tunnel *tunnel, struct path *path, const uint8_t *data, size_t size,
                         unsigned width, unsigned count, unsigned ecn)
{
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

void transmit(struct sender *sender, struct tunnel *tunnel, struct path *path, const uint8_t *data, size_t size,
              unsigned width, unsigned count, unsigned ecn)
{
    send_message(sender->core, tunnel, path, data, size, width, count, ecn);
}

void send_answer(struct receiver *receiver, struct tunnel *tunnel, struct path *path, const uint8_t *data, size_t size)
{
    send_message(receiver->core, tunnel, path, data, size, (unsigned)size, 1, 0);
}

/* Send what waits in a queue of the TUN, for a turn at most. */
void read_tun(struct worker *worker, unsigned queue)
{
    struct core *core = worker->core;
    struct sender *sender = &worker->sender;
    const int fd = atomic_load(&core->queues[queue]);
    int64_t now = now_ns(), until = now + TIME_PER_TURN;
    sender->queue = (uint8_t)queue;
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
