/* Reading sockets, and what goes to the TUN. */
#include "worker.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* Any queue will do where the flow's own has gone. */
static int queue_fd(const struct core *core, unsigned queue)
{
    int fd = atomic_load_explicit(&core->queues[queue % MAX_WORKERS], memory_order_relaxed);
    for (unsigned i = 0; fd < 0 && i < MAX_WORKERS; i++)
        fd = atomic_load_explicit(&core->queues[i], memory_order_relaxed);
    return fd;
}

void write_tun(struct receiver *receiver, unsigned queue, const struct iovec *parts, int count)
{
    struct core *core = receiver->core;
    count_in(core, C_WRITES, 1);
    if (writev(queue_fd(core, queue), parts, count) < 0)
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

static int receive(struct load *load, int fd, unsigned most)
{
    for (unsigned i = 0; i < most; i++) {
        struct message *message = &load->messages[i];
        message->part = (struct iovec){message->data, 65536};
        load->headers[i].msg_hdr = (struct msghdr){
            .msg_name = &message->from, .msg_namelen = sizeof message->from, .msg_iov = &message->part,
            .msg_iovlen = 1, .msg_control = &message->control, .msg_controllen = CONTROL_BYTES,
        };
    }
    return recvmmsg(fd, load->headers, most, MSG_DONTWAIT, NULL);
}

/* Fill a load by one call. What is cut short is nobody's. */
bool read_messages(struct line *line, struct load *load, struct udp_socket *socket)
{
    const int fd = atomic_load(&socket->fd);
    const unsigned most = socket->gro ? FEW : MANY;
    const int got = fd < 0 ? 0 : receive(load, fd, most);
    load->now = now_ns();
    for (int i = 0; i < got; i++) {
        struct message *message = &load->messages[i];
        struct msghdr *header = &load->headers[i].msg_hdr;
        struct batch *batch = &load->batches[load->count];
        *batch = (struct batch){.data = message->data, .size = load->headers[i].msg_len, .socket = socket,
                                .from = message->from, .from_bytes = header->msg_namelen};
        batch->segment = batch->size;
        read_control(batch, header);
        if (batch->size && !(header->msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
            load->count++;
    }
    return got == (int)most; /* else there is nothing more, or an ICMP error that says nothing we believe */
}

/* Receive what waits in a socket, for a turn at most. */
void read_socket(struct worker *worker, struct udp_socket *socket)
{
    struct core *core = worker->core;
    const int64_t until = now_ns() + TIME_PER_TURN;
    bool more = true;
    for (unsigned i = 1; more && i <= READS_PER_TURN; i++) {
        const bool ends = i == READS_PER_TURN || now_ns() >= until;
        more = line_take(core->line, socket, worker->number, worker->scratch, ends) && !ends;
        if (more && core->each > 1)
            call_helpers(core, socket);
    }
}
